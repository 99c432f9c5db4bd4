// The sheet of paper: strokes on a canvas, and the same as an SVG file.

const FRAME = 256; // units, both ways
const MARGIN = 10; // units of paper around the frame
const PEN = 2.2; // width of a line, in units

/** Strokes on a canvas, each in the colour of its leaf. */
export class Sheet {
  constructor(canvas, colourOf) {
    this.canvas = canvas;
    this.colourOf = colourOf;
    this.only = null; // ids of the nodes that stand out; null: all
    this.clear();
    this.frame();
    new ResizeObserver(() => this.fit()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
  }

  get blank() {
    return this.strokes.length === 0;
  }

  clear() {
    this.strokes = []; // {node, points: [[x, y], …]}
    this.pen = null; // {at, t, stroke} of the last point
  }

  /** Shows the frame, and no more. */
  frame() {
    this.box = { left: 0, top: 0, right: FRAME, bottom: FRAME };
  }

  /** Shows more than the frame, where points lie outside it. */
  makeRoom(points) {
    const { left, top, right, bottom } = this.box;
    const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
    this.box = {
      left: Math.min(left, ...xs),
      top: Math.min(top, ...ys),
      right: Math.max(right, ...xs),
      bottom: Math.max(bottom, ...ys),
    };
  }

  /** What is shown, in units: the box with its margin. */
  view() {
    const { left, top, right, bottom } = this.box;
    return [left - MARGIN, top - MARGIN, right - left + 2 * MARGIN, bottom - top + 2 * MARGIN];
  }

  fit() {
    const { width, height } = this.canvas.getBoundingClientRect();
    this.canvas.width = Math.round(width * devicePixelRatio);
    this.canvas.height = Math.round(height * devicePixelRatio);
    this.paint();
  }

  add({ at, t, stroke, node }) {
    this.strokes[stroke] ??= { node, points: [] };
    this.strokes[stroke].points.push(at);
    this.pen = { at, t, stroke, node };
  }

  /** Lets only the strokes of these leaves stand out; null: all. */
  pointOut(ids) {
    this.only = ids;
    this.paint();
  }

  /** Draws everything; `ahead`, the next point, lets the pen be on its way at pen time `time`. */
  paint(ahead = null, time = 0) {
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.setTransform(...this.transform());
    context.lineWidth = PEN;
    context.lineCap = context.lineJoin = "round";
    const tip = ahead?.kind === "point" && this.pen ? this.onTheWay(ahead, time) : null;
    this.strokes.forEach(({ node, points }, index) => {
      const growing = tip && index === this.pen.stroke && index === ahead.stroke;
      this.line(context, node, growing ? [...points, tip] : points);
    });
    if (tip) this.nib(context, tip, ahead.node);
  }

  /** From units to pixels: the view in the middle of the canvas. */
  transform() {
    const { width, height } = this.canvas;
    const [x, y, wide, high] = this.view();
    const scale = Math.min(width / wide, height / high);
    const centre = [(width - wide * scale) / 2, (height - high * scale) / 2];
    return [scale, 0, 0, scale, centre[0] - x * scale, centre[1] - y * scale];
  }

  onTheWay({ at, t }, time) {
    const part = Math.min(1, Math.max(0, (time - this.pen.t) / Math.max(1, t - this.pen.t)));
    return [0, 1].map((axis) => this.pen.at[axis] + part * (at[axis] - this.pen.at[axis]));
  }

  line(context, node, points) {
    context.globalAlpha = this.only && !this.only.has(node) ? 0.13 : 1;
    context.strokeStyle = this.colourOf(node);
    context.beginPath();
    context.moveTo(...points[0]);
    // A line of no length is not drawn, so a dot gets a little.
    const rest = points.length > 1 ? points.slice(1) : [[points[0][0] + 0.01, points[0][1]]];
    for (const point of rest) context.lineTo(...point);
    context.stroke();
  }

  nib(context, at, node) {
    context.globalAlpha = 0.28;
    context.fillStyle = this.colourOf(node);
    context.beginPath();
    context.arc(...at, 5.5, 0, 2 * Math.PI);
    context.fill();
  }

  /** The drawing as the text of an SVG file; `title` and `textOf` name the whole and its leaves. */
  svg(title, textOf) {
    const space = "http://www.w3.org/2000/svg";
    const file = document.implementation.createDocument(space, "svg");
    const add = (parent, name, attributes, text = "") => {
      const element = parent.appendChild(file.createElementNS(space, name));
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      element.textContent = text;
      return element;
    };
    const [x, y, width, height] = this.view();
    file.documentElement.setAttribute("viewBox", this.view().join(" "));
    add(file.documentElement, "title", {}, title);
    add(file.documentElement, "rect", { x, y, width, height, fill: variable("--paper") });
    const pen = { fill: "none", "stroke-width": PEN, "stroke-linecap": "round", "stroke-linejoin": "round" };
    for (const { node, points } of this.strokes.filter(Boolean)) {
      const d = `M${points.map((point) => point.join(" ")).join("L")}${points.length > 1 ? "" : "h0"}`;
      const path = add(file.documentElement, "path", { ...pen, d, stroke: this.colourOf(node) });
      add(path, "title", {}, textOf(node));
    }
    return new XMLSerializer().serializeToString(file);
  }
}

/** The value of a CSS variable, as it is in the light or the dark. */
export function variable(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
