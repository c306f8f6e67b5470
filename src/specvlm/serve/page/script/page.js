// The page: a video, a conversation about it, and what the draft saw.

const at = id => document.getElementById(id);
let film = null, asking = null;

// The frames that the model looks at, each under a grid of its video tokens.
const looks = {
  cells: [],
  show({ frames, num_tokens, warning }) {
    this.cells = frames.map(frame => frame.tokens);
    at("looks").replaceChildren(...frames.map(frame => {
      const picture = make("img"), grid = make("canvas");
      picture.src = frame.picture;
      picture.alt = "";
      return make("figure", "look", make("div", "", picture, grid), make("figcaption", "", frame.seconds === null ? "" : `${frame.seconds.toFixed(1)} s`));
    }));
    at("looks-about").textContent = `The model looks at ${frames.length === 1 ? "one frame" : `${frames.length} frames`}: ${num_tokens} video tokens.`;
    at("warning").textContent = warning ?? "";
  },
  // Darken what the draft didn't see; `told` is what the server says of an answer, or null.
  light(told) {
    const kept = new Set(told?.kept ?? []), colour = getComputedStyle(document.body).getPropertyValue("--one");
    document.querySelectorAll("#looks canvas").forEach((canvas, number) => {
      const rows = this.cells[number], lit = (x, y) => kept.has(rows[y]?.[x]);
      const width = canvas.width = canvas.clientWidth * devicePixelRatio, height = canvas.height = canvas.clientHeight * devicePixelRatio;
      if (!kept.size) return;
      const pen = canvas.getContext("2d"), wide = width / rows[0].length, high = height / rows.length, line = 2 * devicePixelRatio;
      rows.forEach((row, y) => row.forEach((token, x) => {
        const [left, top] = [x * wide, y * high];
        pen.fillStyle = lit(x, y) ? colour : "rgb(0 0 0 / .64)";
        if (!lit(x, y)) return pen.fillRect(left, top, wide, high);
        if (!lit(x, y - 1)) pen.fillRect(left, top, wide, line);
        if (!lit(x, y + 1)) pen.fillRect(left, top + high - line, wide, line);
        if (!lit(x - 1, y)) pen.fillRect(left, top, line, high);
        if (!lit(x + 1, y)) pen.fillRect(left + wide - line, top, line, high);
      }));
    });
    if (kept.size) at("looks-about").textContent = `Lit: the ${told.num_kept} of ${told.num_video_tokens} video tokens that the draft saw. The target saw them all.`;
  },
};

function fail(error, place = at("error")) {
  place.textContent = error.message;
  if (error.status === 401) at("key-row").hidden = false;
}

async function take(blob, name) {
  asking?.abort();
  const taken = film = new Film(blob, name);
  at("turns").replaceChildren();
  at("looks").replaceChildren();
  at("error").textContent = at("warning").textContent = "";
  at("looks-about").textContent = "Looking at the video ...";
  URL.revokeObjectURL(at("video").src);
  at("video").src = URL.createObjectURL(blob);
  document.body.classList.add("has-film");
  try {
    await taken.about(at("question").placeholder, async messages => {
      const found = await (await post("frames", { messages })).json();
      if (film === taken) looks.show(found);
    });
  } catch (error) {
    if (film !== taken) return;
    at("looks-about").textContent = "";
    fail(error);
  }
}

async function ask(question) {
  const about = film, race = new Race(at("race").checked), wrong = make("p", "error");
  const turn = make("article", "turn", make("p", "asked", question), race.card, wrong);
  turn.firstChild.dir = "auto";
  document.querySelectorAll(".turn").forEach(each => each.classList.add("past"));
  at("turns").append(turn);
  turn.scrollIntoView({ block: "nearest" });
  const { signal } = asking = new AbortController();
  document.body.classList.add("asking");
  looks.light(null);
  try {
    await about.about(question, messages => race.run(
      arm => streamed({ messages, specvlm: { arm, trace: true } }, signal), told => looks.light(told)));
  } catch (error) {
    race.stop(signal.aborted ? "Stopped." : "");
    if (!signal.aborted) fail(error, wrong);
  }
  document.body.classList.remove("asking");
  asking = null;
  if (race.ours.told) about.said.push(question, race.ours.text);
  else turn.classList.add("unsaid");
  turn.scrollIntoView({ block: "nearest" });
}

at("ask").onsubmit = event => {
  event.preventDefault();
  if (asking) return;
  const question = at("question").value.trim() || (film.said.length ? "" : at("question").placeholder);
  if (!question) return;
  at("question").value = "";
  ask(question);
};
at("key-row").onsubmit = event => {
  event.preventDefault();
  key = at("key").value;
  at("key-row").hidden = true;
  if (film) take(film.blob, film.name);
};
at("stop").onclick = () => asking?.abort();
at("demo").onclick = async () => {
  const response = await fetch("demo-film").catch(() => null);
  if (response?.ok) take(await response.blob(), "the demo film");
  else fail(new Refused("The demo film can't be had."));
};
at("file").onchange = () => at("file").files.length && take(at("file").files[0], at("file").files[0].name);
document.ondragover = event => { event.preventDefault(); document.body.classList.add("over"); };
document.ondragleave = event => { if (!event.relatedTarget) document.body.classList.remove("over"); };
document.ondrop = event => {
  event.preventDefault();
  document.body.classList.remove("over");
  const [dropped] = event.dataTransfer.files;
  if (dropped) take(dropped, dropped.name);
};
at("why").onclick = () => {
  at("legend").hidden = !at("legend").hidden;
  at("why").setAttribute("aria-expanded", !at("legend").hidden);
};
