"use strict";
// The listening panel. Audio lies as FLAC in base64 in one JSON element an utterance, read when it is chosen.
(() => {
  const panel = document.getElementById("listening-panel");
  if (!panel) return;
  const STEP = 1; // seconds of the arrow keys
  const ANY = "-1";

  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const part = (name) => panel.querySelector(`[data-part="${name}"]`);
  const index = read("listening-index");
  const hasAudio = index.utterances.some((each) => each.audio !== null);
  const calm = matchMedia("(prefers-reduced-motion: reduce)");

  const player = new Player();
  const state = { utterance: 0, row: 0, order: [], lines: [], audio: null, playing: false, blind: false, metric: null };
  const said = part("said");
  const position = part("position");
  const current = () => index.utterances[state.utterance];
  const anonymous = (row) => `System ${state.order.indexOf(row) + 1}`;
  const called = (row) => (state.blind ? anonymous(row) : index.labels[current().rows[row].system]);
  const heard = (row) => (state.audio ? state.audio.rows[row] : null);
  const firstHeard = () => state.order.find((row) => heard(row)) ?? 0;

  function say(text) {
    said.textContent = text;
  }

  function refresh() {
    const { rows } = current();
    panel.dataset.utterance = current().name;
    panel.dataset.system = rows.length ? index.systems[rows[state.row].system] : "";
    panel.dataset.playing = String(state.playing);
    part("sign").textContent = state.playing ? PAUSE : PLAY;
    part("verb").textContent = state.playing ? "Pause" : "Play";
    part("play").disabled = !heard(state.row);
    for (const [row, line] of state.lines.entries()) {
      const here = row === state.row;
      line.item.classList.toggle("current", here);
      if (here) line.item.setAttribute("aria-current", "true");
      else line.item.removeAttribute("aria-current");
      if (!line.button) continue;
      line.sign.textContent = here && state.playing ? PAUSE : PLAY;
      line.verb.textContent = here && state.playing ? "Pause " : "Play ";
    }
    showPosition();
  }

  function showPosition() {
    const at = player.position;
    panel.dataset.position = at.toFixed(3);
    position.value = at;
    const total = player.seconds.toFixed(1);
    part("time").textContent = `${at.toFixed(1)} / ${total} s`;
    // Ten changes a second would be read out one by one.
    const spoken = `${state.playing ? at.toFixed(0) : at.toFixed(1)} of ${total} seconds`;
    if (position.getAttribute("aria-valuetext") !== spoken) position.setAttribute("aria-valuetext", spoken);
    part("rows").style.setProperty("--at", player.seconds ? (100 * at) / player.seconds : 0);
  }

  let ticking = 0;
  function tick() {
    const ticket = ++ticking;
    const step = () => {
      if (ticket !== ticking || !state.playing) return;
      if (player.position >= player.seconds) {
        stop();
        say("The end.");
        return;
      }
      showPosition();
      again();
    };
    const again = () => (calm.matches ? setTimeout(step, 250) : requestAnimationFrame(step));
    again();
  }

  async function play() {
    const sound = heard(state.row);
    if (!sound) return;
    if (!player.running && player.offset >= player.seconds) player.moveTo(0);
    state.playing = true;
    refresh();
    const { row, utterance } = state;
    try {
      if (!(await player.play(sound.sound))) return;
    } catch (error) {
      if (row !== state.row || utterance !== state.utterance) return;
      stop();
      say(`This browser cannot play the audio of ${called(row)}: ${error.message}`);
      return;
    }
    say(`Playing ${called(row)}, ${current().label}`);
    tick();
    player.decodeAll(); // so that switching never waits
  }

  function stop() {
    player.pause();
    state.playing = false;
    refresh();
  }

  function toggle() {
    if (!heard(state.row)) return;
    if (!state.playing) {
      play();
      return;
    }
    stop();
    say(`Paused at ${player.position.toFixed(1)} s, ${called(state.row)}`);
  }

  function seek(seconds) {
    player.moveTo(seconds);
    if (state.playing) play();
    showPosition();
  }

  function select(row) {
    if (state.audio && !heard(row)) {
      say(`No audio of ${called(row)}: ${current().rows[row].reason}`);
      return;
    }
    state.row = row;
    if (state.playing) play();
    else say(called(row));
    refresh();
  }

  // Up and down, past systems without audio.
  function neighbour(step) {
    for (let place = state.order.indexOf(state.row) + step; place in state.order; place += step) {
      if (heard(state.order[place]) || !state.audio) return select(state.order[place]);
    }
  }

  // What `systemRow` is to draw.
  function describe(row, place) {
    const { system, cells, reason } = current().rows[row];
    return {
      name: state.blind ? anonymous(row) : index.systems[system],
      called: called(row),
      digit: place < 10 ? String((place + 1) % 10) : "",
      cells: state.blind ? [] : cells,
      metric: state.metric,
      reason,
      audio: state.audio,
      heard: heard(row),
      hidden: state.blind,
      play: () => {
        if (row === state.row) return toggle();
        state.row = row;
        play();
      },
      playFrom: (share) => {
        player.moveTo(share * player.seconds);
        state.row = row;
        play();
      },
    };
  }

  function buildRows() {
    const focused = panel.contains(document.activeElement);
    const { audio, dataset, label, reason, rows, speaker } = current();
    state.lines = [];
    const items = state.order.map((row, place) => {
      state.lines[row] = systemRow(index, describe(row, place));
      return state.lines[row].item;
    });
    part("rows").replaceChildren(...items);
    const about = [isolated(label), " of ", isolated(dataset), ...(speaker ? [", speaker ", isolated(speaker)] : [])];
    part("about").replaceChildren(...about, `, ${rows.length} systems`);
    part("why").hidden = audio !== null || !hasAudio; // then it stands above the panel
    part("why").replaceChildren("Scores only: ", isolated(reason), ".");
    part("transport").hidden = audio === null;
    part("scale").hidden = audio === null || state.blind;
    if (audio !== null) {
      part("scale").textContent =
        `Spectrograms: time to the right, frequency upwards; from ${state.audio.floor} dB (dark) to ` +
        `${state.audio.ceiling} dB (bright) re a full-scale sine, the same for all. Hatched: beyond a signal’s end or sample rate.`;
    }
    if (focused && !panel.contains(document.activeElement)) panel.focus({ preventScroll: true });
  }

  function mixed(length) {
    const order = [...Array(length).keys()];
    for (let place = length - 1; place > 0 && state.blind; place--) {
      const other = Math.floor(Math.random() * (place + 1));
      [order[place], order[other]] = [order[other], order[place]];
    }
    return order;
  }

  function choose(utterance, system) {
    const goOn = state.playing;
    // Blind, whoever follows one system through utterances would know it again.
    const kept = system ?? (state.blind ? null : current().rows[state.row]?.system);
    state.utterance = utterance;
    const { audio, rows } = current();
    state.audio = audio === null ? null : read(`listening-audio-${audio}`);
    state.playing = false;
    player.load(state.audio ? state.audio.sounds : [], state.audio ? state.audio.seconds : 0);
    position.max = player.seconds;
    state.order = mixed(rows.length);
    const place = rows.findIndex((each) => each.system === kept);
    state.row = place < 0 || (state.audio && !heard(place) && system === undefined) ? firstHeard() : place;
    part("utterance").value = utterance;
    buildRows();
    refresh();
    say(`${current().label}, ${called(state.row)}${state.audio ? "" : ", scores only"}`);
    if (goOn) play();
  }

  function step(by) {
    const next = state.utterance + by;
    if (next in index.utterances) choose(next);
    else say(by > 0 ? "This is the last utterance." : "This is the first utterance.");
  }

  function buildEnds() {
    const lines = index.extremes[part("of").value].map((ends) =>
      endsLine(index, ends, (metric, utterance, system) => {
        state.metric = metric;
        choose(utterance, system);
        (state.audio && heard(state.row) ? part("play") : panel).focus({ preventScroll: true });
        part("utterance").closest(".listening-bar").scrollIntoView({ block: "nearest" });
      }),
    );
    part("ends").replaceChildren(...lines);
  }

  function onKey(event) {
    // AltGr, which some keyboards need for brackets, counts as Ctrl and Alt.
    const held = event.ctrlKey || event.altKey || event.metaKey;
    if (held && !event.getModifierState("AltGraph")) return;
    const at = event.target;
    if (at.closest("select, textarea, [contenteditable], input:not([type=range])")) return;
    if (event.key === " " && at.closest("button, a, summary")) return;
    const inTable = at.closest(".listening-extremes .scroll") === at; // there arrows scroll
    const digit = "1234567890".indexOf(event.key);
    if (event.key === " ") toggle();
    else if (event.key === "[") step(-1);
    else if (event.key === "]") step(1);
    else if (event.key.length === 1 && digit >= 0) {
      if (!(digit in state.order)) return;
      select(state.order[digit]);
    } else if (inTable) return;
    else if (event.key === "ArrowUp") neighbour(-1);
    else if (event.key === "ArrowDown") neighbour(1);
    else if (event.key === "ArrowLeft") seek(player.position - STEP);
    else if (event.key === "ArrowRight") seek(player.position + STEP);
    else return;
    event.preventDefault();
  }

  const systems = Object.keys(index.extremes).filter((system) => index.extremes[system].length);
  if (systems.length) {
    const of = systems.sort((a, b) => a - b).map((system) => new Option(system === ANY ? "any system" : index.labels[system], system));
    part("of").append(...of);
    part("of").addEventListener("change", buildEnds);
    part("extremes").hidden = false;
    buildEnds();
  }
  const groups = [
    ["With audio", (each) => each.audio !== null],
    ["Scores only", (each) => each.audio === null],
  ];
  for (const [label, belongs] of groups) {
    const group = document.createElement("optgroup");
    group.label = label;
    for (const [place, each] of index.utterances.entries()) if (belongs(each)) group.append(new Option(each.label, place));
    if (group.children.length) part("utterance").append(group);
  }
  part("utterance").addEventListener("change", (event) => choose(Number(event.target.value)));
  part("previous").addEventListener("click", () => step(-1));
  part("next").addEventListener("click", () => step(1));
  part("play").addEventListener("click", toggle);
  position.addEventListener("input", () => seek(Number(position.value)));
  part("blind").addEventListener("click", () => {
    state.blind = !state.blind;
    state.order = mixed(current().rows.length);
    if (state.blind) {
      stop();
      state.row = firstHeard(); // the one that was chosen by its name would be known
    }
    part("blind").setAttribute("aria-pressed", String(state.blind));
    part("blind").textContent = state.blind ? "Reveal" : "Blind";
    part("extremes").hidden = state.blind || !systems.length;
    buildRows();
    refresh();
    say(state.blind ? "Names, scores and spectrograms are hidden, the order is shuffled." : `It was ${called(state.row)}.`);
  });
  panel.addEventListener("keydown", onKey);
  choose(0);
})();
