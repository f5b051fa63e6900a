// From strokes to the probability of each label. A picture is resized as vimdeploy's recipe has it; the model does the rest.

import * as ort from "./ort.wasm.bundle.min.mjs";

const SIDE = 128; // pixels of the picture that strokes become
const PEN = 0.15; // of that side: a bit more than one of the model's 8 pixels
const SMALLEST = 0.15; // of the drawing area: smaller drawings, a dot for example, are not magnified any further

ort.env.wasm.numThreads = 1; // more would want a server that sends headers for cross-origin isolation

export async function openReader() {
  const model = await (await found("model.json")).json();
  const bytes = new Uint8Array(await (await found("model.onnx")).arrayBuffer());
  const session = await ort.InferenceSession.create(bytes);
  async function read(strokes) {
    const start = performance.now();
    const seen = resized(pictureOf(strokes), SIDE, model.side);
    const input = new ort.Tensor("uint8", Uint8Array.from(seen), [1, model.side, model.side, 1]);
    const outputs = await session.run({ [model.input]: input });
    return { seen, shares: softmax(outputs[model.output].data), milliseconds: performance.now() - start };
  }
  return { ...model, read };
}

async function found(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  return response;
}

// White strokes on black that fill the height or the width of the picture and stand in its middle, as in the pictures
// that the model was trained on. A stroke is a list of points [x, y], in parts of the drawing area's side.
export function pictureOf(strokes) {
  const [xs, ys] = [0, 1].map((axis) => strokes.flat().map((point) => point[axis]));
  const middles = [xs, ys].map((values) => (Math.min(...values) + Math.max(...values)) / 2);
  const extents = [xs, ys].map((values) => Math.max(...values) - Math.min(...values));
  const scale = ((1 - PEN) * SIDE) / Math.max(...extents, SMALLEST);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillRect(0, 0, SIDE, SIDE);
  context.strokeStyle = "white";
  context.lineWidth = PEN * SIDE;
  drawStrokes(context, strokes, ([x, y]) => [(x - middles[0]) * scale + SIDE / 2, (y - middles[1]) * scale + SIDE / 2]);
  return context.getImageData(0, 0, SIDE, SIDE).data.filter((_, index) => index % 4 === 0);
}

export function drawStrokes(context, strokes, place) {
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    context.beginPath();
    context.moveTo(...place(stroke[0]));
    for (const point of stroke) context.lineTo(...place(point)); // the first again, so that a dot is drawn too
    context.stroke();
  }
}

// A square picture of 8 bits, made smaller as Pillow's bicubic resize does it: across, rounded to 8 bits, then down.
export function resized(pixels, from, to) {
  const scale = from / to;
  const taps = Array.from({ length: to }, (_, place) => {
    const middle = (place + 0.5) * scale;
    const first = Math.max(Math.trunc(middle - 2 * scale + 0.5), 0);
    const end = Math.min(Math.trunc(middle + 2 * scale + 0.5), from);
    const weights = Array.from({ length: end - first }, (_, i) => bicubic((first + i - middle + 0.5) / scale));
    const sum = weights.reduce((a, b) => a + b);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
  const mixed = (values, start, step, { first, weights }) =>
    weights.reduce((sum, weight, i) => sum + weight * values[start + (first + i) * step], 0);
  const across = Uint8ClampedArray.from({ length: from * to }, (_, i) =>
    rounded(mixed(pixels, Math.floor(i / to) * from, 1, taps[i % to])));
  return Uint8ClampedArray.from({ length: to * to }, (_, i) => rounded(mixed(across, i % to, to, taps[Math.floor(i / to)])));
}

const rounded = (value) => Math.floor(value + 0.5);

function bicubic(x) {
  x = Math.abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

function softmax(logits) {
  const most = Math.max(...logits);
  const exponentials = Array.from(logits, (logit) => Math.exp(logit - most));
  const sum = exponentials.reduce((a, b) => a + b);
  return exponentials.map((value) => value / sum);
}
