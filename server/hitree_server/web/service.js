// The service's door: one request, its events, its errors.

export class ServiceError extends Error {
  constructor({ message, details = {} }) {
    super(message);
    this.nearest = (details.nearest ?? "").split(",").map((name) => name.trim()).filter(Boolean);
  }
}

async function errorOf(response) {
  // A proxy in between may answer with something else than our error body.
  const { error = {} } = await response.json().catch(() => ({}));
  return new ServiceError({ message: `The service answered ${response.status}. Try again in a moment.`, ...error });
}

/** The JSON objects of a server-sent event stream, as they arrive. */
async function* serverSent(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (text + value).split(/\r?\n\r?\n/);
    text = blocks.pop();
    for (const block of blocks) {
      const lines = block.split(/\r?\n/).filter((line) => line.startsWith("data:"));
      if (lines.length) yield JSON.parse(lines.map((line) => line.slice(5)).join("\n"));
    }
  }
}

/** The events of one drawing; throws ServiceError, also where the stream ends unfinished. */
export async function* drawEvents(request, signal) {
  const response = await fetch("v1/draw", {
    method: "POST",
    headers: { "content-type": "application/json", accept: "text/event-stream" },
    body: JSON.stringify(request),
    signal,
  });
  if (!response.ok) throw await errorOf(response);
  for await (const event of serverSent(response.body)) {
    if (event.kind === "error") throw new ServiceError(event.error);
    yield event;
    if (event.kind === "finished") return;
  }
  // A bare end: something in between broke.
  throw new ServiceError({ message: "The stream broke off before the drawing was finished. Draw it again." });
}
