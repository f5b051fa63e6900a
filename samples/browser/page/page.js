// The page: strokes by pointer or by keys, and what the reader says of them.

import { drawStrokes, openReader } from "./reader.js";

const [pad, hint, undo, clear, reading, answer, bars, seen, facts] =
  ["pad", "hint", "undo", "clear", "reading", "answer", "bars", "seen", "facts"].map((id) => document.getElementById(id));
const PEN = 0.06; // of the drawing area's side
const STEP = 0.04; // that an arrow key moves the pen
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const strokes = [];
const pen = { x: 0.5, y: 0.2, down: false, shown: false }; // of the keys
let reader;
let hasChanged = false;

function draw() {
  const side = Math.round(pad.clientWidth * devicePixelRatio);
  if (pad.width !== side) pad.width = pad.height = side;
  const context = pad.getContext("2d");
  context.clearRect(0, 0, side, side);
  context.strokeStyle = getComputedStyle(pad).color;
  context.lineWidth = PEN * side;
  drawStrokes(context, strokes, ([x, y]) => [x * side, y * side]);
  if (pen.shown) {
    context.strokeStyle = getComputedStyle(answer).getPropertyValue("--accent");
    context.lineWidth = 3 * devicePixelRatio;
    context.beginPath();
    context.arc(pen.x * side, pen.y * side, (pen.down ? PEN / 2 : PEN) * side, 0, 2 * Math.PI);
    context.stroke();
  }
  hint.hidden = strokes.length > 0 || pen.shown;
  undo.disabled = clear.disabled = !strokes.length;
}

function changed() {
  draw();
  hasChanged = true;
  if (reader && reading.ariaBusy === "false") read();
}

// One reading at a time; the last state of the drawing is always read.
async function read() {
  reading.ariaBusy = "true";
  try {
    while (hasChanged) {
      hasChanged = false;
      show(strokes.length ? await reader.read(strokes) : null);
      await new Promise(requestAnimationFrame);
    }
  } catch (error) {
    answer.textContent = `The drawing could not be read: ${error.message}`;
  }
  reading.ariaBusy = "false";
}

function show(found) {
  const shares = found?.shares ?? reader.labels.map(() => 0);
  const order = [...shares.keys()].sort((a, b) => shares[b] - shares[a]);
  const text = found ? sentence(order.map((index) => reader.labels[index]), shares[order[0]]) : "Waiting for your digit.";
  if (answer.textContent !== text) answer.textContent = text;
  [...bars.children].forEach((row, index) => {
    const percent = Math.round(100 * shares[index]);
    row.classList.toggle("first", Boolean(found) && index === order[0]);
    row.querySelector(".share").textContent = found && percent > 1 ? `${percent}%` : "";
    row.querySelector(".bar").style.setProperty("--share", shares[index]);
  });
  const context = seen.getContext("2d");
  const image = context.createImageData(reader.side, reader.side);
  image.data.forEach((_, i, data) => { data[i] = i % 4 === 3 ? 255 : found?.seen[i >> 2] ?? 0; });
  context.putImageData(image, 0, 0);
  const size = `What the model sees: ${reader.side} × ${reader.side}\u00a0pixels`;
  facts.textContent = found ? `${size}, read in ${found.milliseconds.toFixed(0)}\u00a0ms.` : `${size}.`;
}

function sentence(labels, share) {
  const [first, second] = labels.map((label) => `${label.startsWith("8") ? "an" : "a"} ${label}`);
  if (share >= 0.8) return `This is ${first}.`;
  return share >= 0.5 ? `Probably ${first}, perhaps ${second}.` : `Hard to tell: ${first} or ${second}?`;
}

function pointOf(event) {
  const box = pad.getBoundingClientRect();
  const part = (value) => Math.min(Math.max(value, 0), 1);
  return [part((event.clientX - box.left) / box.width), part((event.clientY - box.top) / box.height)];
}

pad.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button) return;
  pad.setPointerCapture(event.pointerId);
  pen.shown = pen.down = false;
  strokes.push([pointOf(event)]);
  changed();
});

pad.addEventListener("pointermove", (event) => {
  if (!event.isPrimary || !pad.hasPointerCapture(event.pointerId)) return;
  const events = event.getCoalescedEvents?.() ?? [];
  strokes.at(-1)?.push(...(events.length ? events : [event]).map(pointOf));
  changed();
});

pad.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Backspace") {
    undo.click();
  } else if (event.key === " ") {
    pen.down = !pen.down;
    if (pen.down) strokes.push([[pen.x, pen.y]]);
  } else if (event.key in ARROWS) {
    const part = (value) => Math.min(Math.max(value, PEN), 1 - PEN);
    pen.x = part(pen.x + STEP * ARROWS[event.key][0]);
    pen.y = part(pen.y + STEP * ARROWS[event.key][1]);
    if (pen.down) strokes.at(-1).push([pen.x, pen.y]);
  } else {
    return;
  }
  event.preventDefault();
  pen.shown = true;
  changed();
});

pad.addEventListener("blur", () => {
  pen.shown = pen.down = false;
  draw();
});

function takeBack(count) {
  pen.down = false;
  strokes.splice(-count);
  changed();
  if (!strokes.length) pad.focus({ preventScroll: true }); // the buttons, one of which has the focus, are off now
}

undo.addEventListener("click", () => takeBack(1));
clear.addEventListener("click", () => takeBack(strokes.length));

new ResizeObserver(draw).observe(pad);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

try {
  reader = await openReader();
  seen.width = seen.height = reader.side;
  bars.append(...reader.labels.map((label) => {
    const row = document.createElement("li");
    for (const [name, text] of [["share", ""], ["bar", ""], ["label", label]]) {
      row.append(Object.assign(document.createElement("span"), { className: name, textContent: text }));
    }
    return row;
  }));
  hasChanged = true;
  read();
} catch (error) {
  answer.textContent = `The model could not be loaded: ${error.message}`;
  reading.ariaBusy = "false";
}
