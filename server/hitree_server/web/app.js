// The drawing app: sends a prompt, plays the strokes that stream back, shows the plan beside them.

import { Player } from "./player.js";
import { ServiceError, drawEvents } from "./service.js";
import { Sheet, variable } from "./sheet.js";
import { Tree, count } from "./tree.js";

const $ = (id) => document.getElementById(id);

const tree = new Tree($("tree"), (ids) => sheet.pointOut(ids));
const sheet = new Sheet($("canvas"), (node) => variable(tree.colourName(node)));
const player = new Player(show, paint);
let stream = null; // AbortController of the stream that is open
let busy = false; // something is being made or played
let drawing = { prompt: "", subject: "", seed: 0 }; // what is on the sheet

// ---- what is shown as pen time passes --------------------------------------------------------

const shows = {
  started: ({ subject }) => {
    drawing.subject = subject;
  },
  plan: ({ plan }) => {
    tree.show(plan.nodes);
    $("subject").textContent = `${plan.subject}, ${Math.round(100 * plan.confidence)} % sure`;
  },
  node_started: ({ node, text }) => {
    tree.start(node);
    say(text);
  },
  point: (entry) => sheet.add(entry),
  stroke_finished: () => {},
  node_finished: ({ node, start, end }) => tree.finish(node, end - start),
  finished: ({ strokes, points, timings }) => {
    const { first_point_ms: first, total_ms: total } = timings;
    say(`${count(strokes, "stroke")}, ${count(points, "point")}; made in ${ms(total)}, the first point after ${ms(first)}`);
    $("canvas").setAttribute("aria-label", `Drawing of ${drawing.subject}: ${count(strokes, "stroke")}`);
    rest();
  },
};

function show(entry) {
  shows[entry.kind]?.(entry);
}

function paint(ahead, time) {
  sheet.paint(ahead, time);
  if (!ahead && !stream) rest();
}

function say(text) {
  $("status").textContent = text;
}

function ms(value) {
  return value < 1000 ? `${value.toFixed(value < 10 ? 1 : 0)} ms` : `${(value / 1000).toFixed(1)} s`;
}

// ---- drawing ---------------------------------------------------------------------------------

/** The request that the form asks for; what is left empty is left to the service. */
function request() {
  const asked = { prompt: $("prompt").value, seed: Math.floor(Math.random() * 2 ** 32) };
  if ($("seed").value) asked.seed = Number($("seed").value);
  if ($("temperature").value) asked.temperature = Number($("temperature").value);
  return asked;
}

async function draw() {
  stop();
  const asked = request();
  const mine = new AbortController();
  stream = mine;
  drawing = { ...asked, subject: "" };
  player.clear();
  sheet.frame();
  begin("Planning");
  try {
    for await (const event of drawEvents(asked, mine.signal)) {
      if (event.kind === "points") sheet.makeRoom(event.points);
      player.push(event);
    }
  } catch (error) {
    if (stream === mine) fail(error);
  } finally {
    if (stream === mine) stream = null;
  }
}

function replay() {
  player.rewind();
  begin("Once more");
  player.play();
}

function begin(text) {
  busy = true;
  sheet.clear();
  sheet.paint();
  tree.show([]);
  $("subject").textContent = "";
  for (const id of ["error", "hint", "no-plan"]) $(id).hidden = true;
  $("keep").hidden = true;
  $("canvas").setAttribute("aria-label", "A drawing in the making");
  for (const id of ["replay", "save"]) $(id).disabled = true;
  $("stop").disabled = false;
  say(text);
}

function rest() {
  busy = false;
  tree.rest();
  $("stop").disabled = true;
  for (const id of ["replay", "save"]) $(id).disabled = sheet.blank;
  $("hint").hidden = !sheet.blank;
  $("no-plan").hidden = tree.nodes.length > 0;
  $("keep").hidden = sheet.blank || $("seed").value === String(drawing.seed);
  $("keep").textContent = `Keep seed ${drawing.seed}`;
}

/** Ends the stream and the playing; what was drawn stays. */
function halt(text) {
  stream?.abort();
  stream = null;
  player.pause();
  sheet.paint();
  rest();
  say(text);
}

function stop() {
  if (busy) halt("Stopped");
}

function fail(error) {
  const foreign = !(error instanceof ServiceError);
  if (foreign) console.error(error);
  halt("Not drawn");
  $("error-message").textContent = foreign ? "The service cannot be reached. Try again in a moment." : error.message;
  $("nearest").replaceChildren(...(error.nearest ?? []).map(chip));
  $("nearest").hidden = !error.nearest?.length;
  $("error").hidden = false;
}

function chip(subject) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = subject;
  button.addEventListener("click", () => {
    $("prompt").value = `draw ${/^[aeiou]/.test(subject) ? "an" : "a"} ${subject}`;
    draw();
  });
  return button;
}

function save() {
  const svg = sheet.svg(drawing.prompt, (node) => tree.textOf(node));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  link.download = `${(drawing.subject || "drawing").replaceAll(" ", "_")}.svg`;
  link.click();
  URL.revokeObjectURL(link.href);
}

// ---- controls --------------------------------------------------------------------------------

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  draw();
});
$("stop").addEventListener("click", stop);
$("replay").addEventListener("click", replay);
$("save").addEventListener("click", save);
$("keep").addEventListener("click", () => {
  $("seed").value = drawing.seed;
  $("keep").hidden = true;
});
$("speed").addEventListener("change", () => (player.speed = Number($("speed").value)));
document.addEventListener("keydown", (event) => event.key === "Escape" && stop());
if (matchMedia("(prefers-reduced-motion: reduce)").matches) $("speed").value = "Infinity";
player.speed = Number($("speed").value);
