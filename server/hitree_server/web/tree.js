// The plan: an instruction tree as nested lists, and the colours of its leaves.

const COLOURS = 10; // --leaf-0 to --leaf-9 in style.css

/** The instruction tree as nested lists; pointing at a node points out its strokes. */
export class Tree {
  constructor(list, pointOut) {
    this.list = list;
    this.pointOut = pointOut;
    this.show([]);
  }

  show(nodes) {
    this.rows = new Map(); // id -> button
    this.leaves = []; // ids, in drawing order
    this.nodes = nodes;
    this.list.replaceChildren();
    const lists = new Map([[null, this.list]]);
    for (const node of nodes) this.grow(node, lists);
  }

  grow(node, lists) {
    const item = lists.get(node.parent ?? null).appendChild(document.createElement("li"));
    const row = item.appendChild(document.createElement("button"));
    row.type = "button";
    row.append(Object.assign(document.createElement("span"), { textContent: node.text }));
    this.rows.set(node.id, row);
    if (this.nodes.some(({ parent }) => parent === node.id)) {
      row.className = "node inner";
      lists.set(node.id, item.appendChild(document.createElement("ul")));
    } else {
      row.className = "node leaf";
      this.leaves.push(node.id);
      row.style.setProperty("--colour", `var(${this.colourName(node.id)})`);
    }
    for (const name of ["pointerenter", "focus"]) row.addEventListener(name, () => this.pointOut(this.below(node.id)));
    for (const name of ["pointerleave", "blur"]) row.addEventListener(name, () => this.pointOut(null));
  }

  colourName(id) {
    return `--leaf-${Math.max(0, this.leaves.indexOf(id)) % COLOURS}`;
  }

  below(id) {
    const ids = new Set([id]);
    for (const node of this.nodes) if (ids.has(node.parent)) ids.add(node.id);
    return ids;
  }

  textOf(id) {
    return this.nodes.find((node) => node.id === id)?.text ?? "";
  }

  start(id) {
    this.rest();
    const row = this.rows.get(id);
    if (!row) return;
    row.classList.add("drawing");
    row.setAttribute("aria-current", "step");
    // Only on wide screens does the panel scroll by itself; the page must stay with the sheet.
    const panel = this.list.parentElement;
    panel.scrollTop = row.offsetTop - panel.clientHeight / 2;
  }

  finish(id, strokes) {
    this.rest();
    const row = this.rows.get(id);
    if (!row || row.classList.contains("done")) return;
    row.classList.add("done");
    row.append(Object.assign(document.createElement("small"), { textContent: count(strokes, "stroke") }));
  }

  rest() {
    for (const row of this.rows.values()) {
      row.classList.remove("drawing");
      row.removeAttribute("aria-current");
    }
  }
}

/** "1 stroke", "2 strokes". */
export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
