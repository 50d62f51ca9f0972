// A picture of any size as the network takes it: the middle square, resized to 32×32, red, green and blue as bytes.
// This is what era_resnet.data.to_32 does in Python with Pillow's BILINEAR; the arithmetic is the same, so are the bytes.

export const SIDE = 32;
export const MAX_PIXELS = 50_000_000;
const BITS = 22; // Pillow keeps the weights as whole numbers of 2⁻²²

/** For each of the 32 places: where its pixels begin, and their weights: a triangle as wide as the picture is shrunk. */
function weights(size) {
  const scale = size / SIDE, support = Math.max(scale, 1);
  return Array.from({ length: SIDE }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(size, Math.trunc(centre + support + 0.5));
    const raw = Array.from({ length: last - first }, (_, i) => Math.max(0, 1 - Math.abs((first + i - centre + 0.5) / support)));
    const sum = raw.reduce((a, b) => a + b, 0);
    return { first, kernel: raw.map((w) => Math.trunc(0.5 + (w / sum) * 2 ** BITS)) };
  });
}

/** Shrink or enlarge the rows of `pixels` (height × size × 3 bytes) to 32 places each. */
function resizeRows(pixels, size, height) {
  const out = new Uint8ClampedArray(height * SIDE * 3);
  weights(size).forEach(({ first, kernel }, place) => {
    for (let y = 0; y < height; y++) {
      for (let c = 0; c < 3; c++) {
        let sum = 2 ** (BITS - 1);
        for (let i = 0; i < kernel.length; i++) sum += kernel[i] * pixels[(y * size + first + i) * 3 + c];
        out[(y * SIDE + place) * 3 + c] = sum >> BITS;
      }
    }
  });
  return out;
}

/** Swap rows and columns of height × width × 3 bytes. */
function transposed(pixels, width, height) {
  const out = new Uint8ClampedArray(pixels.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) out[(x * height + y) * 3 + c] = pixels[(y * width + x) * 3 + c];
    }
  }
  return out;
}

/** side × side × 3 bytes to 32 × 32 × 3 bytes: first the rows, then the columns, as Pillow does. */
export function resized(pixels, side) {
  if (side === SIDE) return pixels;
  const narrow = resizeRows(pixels, side, side);
  return transposed(resizeRows(transposed(narrow, SIDE, side), side, SIDE), SIDE, SIDE);
}

/** What can be drawn on a canvas (a bitmap, a frame of video) to 32 × 32 × 3 bytes; what is transparent becomes white. */
export function to32(source, width, height) {
  const side = Math.min(width, height);
  const canvas = new OffscreenCanvas(side, side);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, side, side);
  context.drawImage(source, -Math.floor((width - side) / 2), -Math.floor((height - side) / 2));
  const rgba = context.getImageData(0, 0, side, side).data;
  const rgb = new Uint8ClampedArray(side * side * 3);
  for (let i = 0; i < side * side; i++) {
    for (let c = 0; c < 3; c++) rgb[3 * i + c] = rgba[4 * i + c];
  }
  return resized(rgb, side);
}

/** A file or blob to 32 × 32 × 3 bytes; throws an Error with a sentence for people. */
export async function read(blob, name = "this file") {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { premultiplyAlpha: "none", colorSpaceConversion: "none" });
  } catch {
    throw new Error(`${name} is no picture that this browser can read; choose a PNG or JPEG.`);
  }
  try {
    if (bitmap.width * bitmap.height > MAX_PIXELS) throw new Error(`${name} has ${bitmap.width}×${bitmap.height} pixels, more than 50 million; make it smaller.`);
    return to32(bitmap, bitmap.width, bitmap.height);
  } finally {
    bitmap.close();
  }
}
