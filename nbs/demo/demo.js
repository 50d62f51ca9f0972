// The page: what it loads, where pictures come from, and how an answer is shown. Nothing here talks to another server.
import { SIDE, read, to32 } from "./picture.js";

const $ = (id) => document.getElementById(id);
let session, about, latest; // the network, what is known of it, and its last answer

function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").classList.toggle("wrong", wrong);
}

/** Fetch ONNX Runtime and the network from this site, when asked for. */
async function load() {
  $("load").disabled = true;
  say("Loading the network …");
  try {
    const here = new URL("built/", import.meta.url).href;
    const [ort, card] = await Promise.all([import(`${here}ort.wasm.min.mjs`), fetch(`${here}model.json`).then((r) => r.json())]);
    ort.env.wasm.wasmPaths = here;
    ort.env.wasm.numThreads = 1;
    session = await ort.InferenceSession.create(`${here}compact.onnx`, { executionProviders: ["wasm"] });
    session.tensor = (bytes) => new ort.Tensor("uint8", new Uint8Array(bytes), [1, SIDE, SIDE, 3]);
    about = card;
  } catch (error) {
    $("load").disabled = false;
    return say(`The network could not be loaded (${error.message}); try again.`, true);
  }
  $("load").hidden = true;
  $("choose").hidden = false;
  say("The network is here. Choose a picture.");
  $("file").focus();
}

const softmax = (logits) => {
  const highest = Math.max(...logits), powers = Array.from(logits, (v) => Math.exp(v - highest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((v) => v / sum);
};

/** Ask the network, and show what it says. */
async function classify(bytes) {
  const start = performance.now();
  const { logits, maps } = await session.run({ images: session.tensor(bytes) });
  const milliseconds = performance.now() - start;
  latest = { bytes, probabilities: softmax(logits.data), maps: maps.data, size: maps.dims[3] };
  show(milliseconds);
}

function show(milliseconds) {
  const order = latest.probabilities.map((p, i) => [p, i]).sort((a, b) => b[0] - a[0]);
  $("answers").replaceChildren(...order.map(([p, i], place) => bar(about.classes[i], i, p, place === 0)));
  drawPicture("seen");
  drawMap(order[0][1]);
  $("answer").hidden = false;
  const [p, best] = order[0];
  say(`${about.classes[best]}, ${percent(p)}. It took ${milliseconds.toFixed(0)} ms.`);
  $("answer").dataset.count = Number($("answer").dataset.count ?? 0) + 1;
}

const percent = (p) => (p > 0.995 ? "more than 99 %" : `${(100 * p).toFixed(0)} %`);

/** One answer: a radio button, so that arrow keys move through the classes and the map follows. */
function bar(name, index, p, checked) {
  const row = document.createElement("label"), choice = document.createElement("input"), length = document.createElement("span");
  Object.assign(choice, { type: "radio", name: "class", value: index, checked });
  choice.addEventListener("change", () => drawMap(index));
  length.className = "bar";
  length.style.width = `${100 * p}%`;
  const text = document.createElement("span"), track = document.createElement("span"), number = document.createElement("span");
  text.textContent = name;
  track.className = "track";
  track.append(length);
  number.textContent = percent(p).replace("more than ", ">");
  row.append(choice, text, track, number);
  Object.assign(row.dataset, { class: name, p });
  return row;
}

/** The 32×32 pixels that the network gets, in colour or in grey, enlarged without smoothing. */
function drawPicture(id, grey = false) {
  const image = new ImageData(SIDE, SIDE);
  for (let i = 0; i < SIDE * SIDE; i++) {
    const rgb = latest.bytes.slice(3 * i, 3 * i + 3), mean = (rgb[0] + rgb[1] + rgb[2]) / 3;
    image.data.set(grey ? [mean, mean, mean, 255] : [...rgb, 255], 4 * i);
  }
  $(id).getContext("2d").putImageData(image, 0, 0);
}

/** Lay the evidence for a class over the picture: the more, the more orange. */
function drawMap(index) {
  drawPicture("where", true);
  const { maps, size } = latest, places = size * size, evidence = Array.from(maps.subarray(index * places, (index + 1) * places), (v) => Math.max(v, 0));
  const highest = Math.max(...evidence, 1e-9), small = new OffscreenCanvas(size, size), image = new ImageData(size, size);
  evidence.forEach((v, i) => image.data.set([213, 94, 0, 200 * (v / highest)], 4 * i));
  small.getContext("2d").putImageData(image, 0, 0);
  const context = $("where").getContext("2d");
  context.imageSmoothingEnabled = true;
  context.drawImage(small, 0, 0, SIDE, SIDE);
  $("where-text").textContent = `where it found what speaks for ${about.classes[index]}`;
}

/** Read a file or blob, and say so in a sentence if it can't be. */
async function take(blob, name = blob.name) {
  try {
    await classify(await read(blob, name));
  } catch (error) {
    say(error.message, true);
  }
}

const firstPicture = (list) => [...list].find((f) => f.type.startsWith("image/")) ?? list[0];

async function camera() {
  const video = $("video");
  if (video.srcObject) {
    if (!video.videoWidth) return; // it has not begun yet
    await classify(to32(video, video.videoWidth, video.videoHeight));
    return stopCamera();
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch {
    return say("There is no camera, or this page may not use it; choose a file.", true);
  }
  video.hidden = false;
  await video.play();
  $("camera").textContent = "Take the picture";
}

function stopCamera() {
  $("video").srcObject.getTracks().forEach((track) => track.stop());
  $("video").srcObject = null;
  $("video").hidden = true;
  $("camera").textContent = "Use the camera";
}

/** Light or dark as was chosen on the book's pages, else as the system says. */
function dress() {
  const chosen = localStorage.getItem("quarto-color-scheme");
  if (chosen) document.documentElement.style.colorScheme = chosen === "alternate" ? "dark" : "light";
}

dress();
$("load").addEventListener("click", load);
$("camera").addEventListener("click", camera);
$("file").addEventListener("change", (event) => event.target.files.length && take(event.target.files[0]));
for (const sample of document.querySelectorAll("#samples button")) {
  sample.addEventListener("click", async () => take(await (await fetch(sample.firstElementChild.src)).blob(), "the sample"));
}
document.addEventListener("paste", (event) => session && event.clipboardData.files.length && take(firstPicture(event.clipboardData.files), "what was pasted"));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (!session) return say("Load the network first.", true);
  if (event.dataTransfer.files.length) take(firstPicture(event.dataTransfer.files));
});
