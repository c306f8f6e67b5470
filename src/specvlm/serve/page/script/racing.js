// Two answers to one question, each drawn as it was at any moment: so they race even if they came one after the other.

const make = (name, kind = "", ...inside) => {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  made.append(...inside);
  return made;
};
const seconds = milliseconds => `${(milliseconds / 1000).toFixed(2)} s`;
const figure = number => number >= 100 ? number.toFixed(0) : number.toFixed(1);

// One answer: its tokens and when they came, in milliseconds from its beginning.
class Lane {
  constructor(name, kind) {
    this.pieces = [];
    this.end = null;
    this.told = null;  // what the server says of it in the end
    this.tokens = null;
    this.bar = make("div", "bar");
    this.rate = make("span", "rate");
    this.time = make("span", "time");
    this.track = make("div", `track ${kind}`, make("span", "name", name), this.bar, this.rate, this.time);
    this.answer = make("div", "answer");
    this.answer.dir = "auto";
    this.box = make("div", `lane ${kind}`, make("h3", "", name), this.answer);
    this.restart();
  }

  get text() { return this.pieces.map(piece => piece.text).join(""); }
  get perSecond() { return this.told?.tokens_per_second ?? null; }

  // Half a letter, and the end, have nothing to show.
  add(pieces, at) { for (const piece of pieces) if (piece.text) this.pieces.push({ ...piece, at }); }

  restart() {
    this.shown = 0;
    this.answer.replaceChildren();
    this.bar.replaceChildren();
  }

  // Show what had come by then; `total` is how many tokens fill the bar. Returns tokens a second so far.
  draw(elapsed, total) {
    for (; this.shown < this.pieces.length && this.pieces[this.shown].at <= elapsed; this.shown++) {
      const piece = this.pieces[this.shown];
      const [, space, word] = /^(\s*)(.*)$/s.exec(piece.text);  // a space that a line ends with has no colour
      this.answer.append(space, make("span", piece.how, word));
      if (this.bar.lastChild?.className !== piece.how) this.bar.append(make("i", piece.how));
      this.bar.lastChild.dataset.tokens = 1 + Number(this.bar.lastChild.dataset.tokens ?? 0);
    }
    const isOver = this.end !== null && elapsed >= this.end;
    const most = (isOver ? 0 : total ?? 0) > this.shown ? total : this.shown;
    for (const run of this.bar.children) run.style.width = `${100 * run.dataset.tokens / most}%`;
    const last = this.pieces[this.shown - 1]?.at, first = this.pieces[0]?.at;
    const until = isOver ? last : elapsed;
    const soFar = this.shown > 1 && until > first ? 1000 * (this.shown - 1) / (until - first) : null;
    const rate = isOver ? this.perSecond ?? soFar : soFar;
    this.rate.textContent = rate ? `${figure(rate)} tokens/s` : "";
    this.time.textContent = seconds(Math.min(elapsed, this.end ?? elapsed));
    this.track.classList.toggle("over", isOver);
    return rate;
  }
}

// SpecVLM, and stock generate if it is wanted.
class Race {
  constructor(withStock) {
    this.ours = new Lane("SpecVLM", "ours");
    this.stock = withStock ? new Lane("Stock generate", "stock") : null;
    this.running = [];
    this.factor = make("b", "factor");
    this.verdict = make("span", "verdict");
    this.facts = make("p", "facts");
    this.again = make("p", "again");
    const lanes = [this.ours, this.stock].filter(Boolean);
    this.card = make("div", "card race", make("p", "result", this.factor, this.verdict),
      make("div", "tracks", ...lanes.map(lane => lane.track)), make("div", "lanes", ...lanes.map(lane => lane.box)), this.facts, this.again);
  }

  // `ask(arm)` gives the chunks of an answer, and `light` is told of ours. One answer comes after the other, so that
  // neither slows the other down.
  async run(ask, light) {
    this.verdict.textContent = "SpecVLM answers.";
    await this.answer(this.ours, ask("specvlm"), [this.ours]);
    light(this.ours.told);
    if (this.stock) {
      this.verdict.textContent = "Now stock answers; beside it, SpecVLM as it was a moment ago, in true time.";
      await this.answer(this.stock, ask("ar"), [this.ours, this.stock]);
    }
    this.settle();
  }

  async answer(lane, coming, running) {
    [lane.pieces, lane.end] = [[], null];
    this.play(running);
    const began = this.clock;
    try {
      for await (const chunk of coming) {
        if (chunk.specvlm?.pieces) lane.add(chunk.specvlm.pieces, performance.now() - began);
        else if (chunk.specvlm) lane.told = chunk.specvlm;
        if (chunk.usage) lane.tokens = chunk.usage.completion_tokens;
      }
    } finally {
      lane.end = performance.now() - began;
    }
    if (running.length > 1) await this.played;
  }

  // Draw from the beginning; `slowness` 1 is true time.
  play(running, slowness = 1) {
    cancelAnimationFrame(this.frame);
    this.clock = performance.now();
    for (const lane of running) lane.restart();
    this.played = new Promise(resolve => {
      const tick = () => {
        const elapsed = (performance.now() - this.clock) / slowness;
        this.draw(running, elapsed);
        if (running.every(lane => lane.end !== null && lane.end <= elapsed)) resolve();
        else this.frame = requestAnimationFrame(tick);
      };
      tick();
    });
  }

  draw(running, elapsed) {
    const rates = running.map(lane => lane.draw(elapsed, this.ours.tokens));
    this.factor.textContent = rates.length > 1 && rates[0] && rates[1] ? `${(rates[0] / rates[1]).toFixed(1)}×` : "";
  }

  // What it came to, once all is there.
  settle() {
    const lanes = [this.ours, this.stock].filter(Boolean);
    cancelAnimationFrame(this.frame);
    this.draw(lanes, Infinity);
    const { mean_acceptance_length: accepted, rounds } = this.ours.told;
    if (this.stock) {
      const same = this.stock.text === this.ours.text;
      this.verdict.textContent = same ? "as fast in decoding, and the same answer to the letter." : "as fast in decoding. The answers differ, which they must not.";
      this.card.classList.toggle("bad", !same);
      const button = (text, slowness) => {
        const made = make("button", "quiet", text);
        made.type = "button";
        made.onclick = () => this.play(lanes, slowness);
        return made;
      };
      this.again.replaceChildren(button("Again", 1), button("Again, ten times slower", 10));
    } else {
      this.verdict.textContent = `${figure(this.ours.perSecond)} tokens a second.`;
    }
    const firsts = lanes.map(lane => seconds(1000 * lane.told.ttft_seconds)).join(", stock's after ");
    this.facts.textContent = `${rounds} forwards of the target gave ${this.ours.tokens} tokens, ${accepted.toFixed(2)} each, where plain decoding gives one. `
      + `The first token came after ${firsts}.` + (this.stock ? " They answered one after the other, and are shown side by side in true time." : "");
  }

  // It was broken off: show what there is, and why.
  stop(why) {
    cancelAnimationFrame(this.frame);
    for (const lane of [this.ours, this.stock].filter(Boolean)) {
      lane.end ??= 0;
      lane.draw(Infinity, this.ours.tokens);
    }
    this.factor.textContent = "";
    this.verdict.textContent = why;
  }
}
