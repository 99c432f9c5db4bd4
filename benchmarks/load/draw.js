// Streams drawings over gRPC from many virtual users at once and sums up what they saw.
//
//   k6 run -e ADDRESS=127.0.0.1:50051 -e USERS=16 -e DRAWINGS=10 benchmarks/load/draw.js
//
// Every user draws DRAWINGS drawings one after the other, each with a seed of its own.
import { check } from "k6";
import { Client, Stream } from "k6/net/grpc";
import { Counter, Rate, Trend } from "k6/metrics";

const ADDRESS = __ENV.ADDRESS || "127.0.0.1:50051";
const USERS = Number(__ENV.USERS || 16);
const DRAWINGS = Number(__ENV.DRAWINGS || 10);
const PROMPTS = (__ENV.PROMPTS || "draw a flamingo,draw a cat,draw an owl,draw a sea turtle").split(",");

const firstPoints = new Trend("draw_first_points", true);
const wholeDrawing = new Trend("draw_whole", true);
const pointsADrawing = new Trend("draw_points_a_drawing");
const points = new Counter("draw_points");
const finished = new Counter("draw_finished");
const failed = new Rate("draw_failed");

export const options = {
  scenarios: {
    draw: { executor: "per-vu-iterations", vus: USERS, iterations: DRAWINGS, maxDuration: "5m" },
  },
  thresholds: {
    draw_failed: ["rate==0"],
    draw_finished: [`count==${USERS * DRAWINGS}`],
    checks: ["rate==1"],
  },
  summaryTrendStats: ["min", "med", "p(95)", "p(99)", "max"],
};

const client = new Client();
client.load(["../../proto/hitree/v1"], "hitree.proto");
let connected = false;

/** One drawing: resolves with what was seen once the stream is over. */
function draw(prompt, seed) {
  const seen = { first: 0, points: 0, last: "", error: "" };
  const begin = Date.now();
  const stream = new Stream(client, "hitree.v1.HiTree/Draw");
  return new Promise((resolve) => {
    stream.on("data", (event) => {
      seen.last = Object.keys(event).find((key) => key !== "index");
      if (event.points) {
        seen.first = seen.first || Date.now() - begin;
        seen.points += event.points.xs.length;
      }
    });
    stream.on("error", (error) => (seen.error = error.message));
    stream.on("end", () => resolve({ ...seen, whole: Date.now() - begin }));
    stream.write({ prompt, seed });
    stream.end();
  });
}

export default async function () {
  if (!connected) {
    client.connect(ADDRESS, { plaintext: true });
    connected = true;
  }
  const prompt = PROMPTS[(__VU + __ITER) % PROMPTS.length];
  const seen = await draw(prompt, 1000 * __VU + __ITER);
  const whole = check(seen, {
    "the last event is finished": ({ last }) => last === "finished",
    "points came": (drawing) => drawing.points > 0,
  });
  failed.add(!whole);
  if (!whole) console.error(`${prompt}: ended with ${seen.last || "nothing"} ${seen.error}`);
  else {
    finished.add(1);
    points.add(seen.points);
    pointsADrawing.add(seen.points);
    firstPoints.add(seen.first);
    wholeDrawing.add(seen.whole);
  }
}
