// A drawing takes the service milliseconds; this plays it at a person's pace, so that pen time
// (t_ms) passes at the chosen speed whatever the speed of arrival.

/** Lets pen time pass: takes events as they come, hands each to `show` when its time has come. */
export class Player {
  constructor(show, paint) {
    this.show = show;
    this.paint = paint;
    this.speed = 1;
    this.clear();
  }

  clear() {
    this.entries = []; // events in order; `points` are taken apart into single points
    this.rewind();
  }

  rewind() {
    this.pause();
    this.next = 0; // first entry that was not shown yet
    this.time = 0; // pen time, ms
    this.reached = 0; // pen time of the last point shown
  }

  pause() {
    cancelAnimationFrame(this.frame);
    this.running = false;
  }

  push(event) {
    if (event.kind !== "points") this.entries.push(event);
    else {
      event.points.forEach((at, i) => {
        this.entries.push({ kind: "point", at, t: event.t_ms[i], stroke: event.stroke, node: event.node });
      });
    }
    this.play();
  }

  play() {
    if (this.running || this.next === this.entries.length) return;
    this.running = true;
    this.last = null; // wall time of the last frame
    this.frame = requestAnimationFrame((now) => this.tick(now));
  }

  tick(now) {
    const passed = this.speed === Infinity ? Infinity : (now - (this.last ?? now)) * this.speed;
    this.last = now;
    this.time += passed;
    while (this.next < this.entries.length && (this.entries[this.next].t ?? 0) <= this.time) {
      const entry = this.entries[this.next++];
      this.show(entry);
      if (entry.kind === "point") this.reached = entry.t;
    }
    this.running = this.next < this.entries.length;
    // Time waits for the service: a late batch must not be drawn in one stroke of lightning.
    if (!this.running) this.time = this.reached;
    this.paint(this.running ? this.entries[this.next] : null, this.time);
    if (this.running) this.frame = requestAnimationFrame((later) => this.tick(later));
  }
}
