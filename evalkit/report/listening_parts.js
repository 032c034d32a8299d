"use strict";
// Elements of the listening panel. Names are set as text, never as markup, and isolated, so that those written from right
// to left turn nothing around them.

const [PLAY, PAUSE] = ["▶\ufe0e", "⏸\ufe0e"]; // as text, not as coloured pictures

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}
const isolated = (text) => make("bdi", "", text);
const unseen = (text) => make("span", "unseen", text);
const unspoken = (className, ...children) => {
  const element = make("span", className, ...children);
  element.setAttribute("aria-hidden", "true");
  return element;
};

function action(act, ...children) {
  const button = make("button", "", ...children);
  button.type = "button";
  button.addEventListener("click", act);
  return button;
}

// One score: a text, the number of a failure, or null for none.
function scoreItem(index, cell, metric, chosen) {
  const { label, unit, arrow } = index.metrics[metric];
  const item = make("li", chosen ? "chosen" : "", `${label}${arrow ? ` ${arrow}` : ""} `);
  if (typeof cell === "string") item.append(make("b", "", cell), unit ? ` ${unit}` : "");
  else if (cell === null) item.append("-");
  else {
    const [status, why] = index.failures[cell];
    item.append(make("b", "", status), why ? ": " : "", isolated(why));
  }
  return item;
}

// A spectrogram with its axes and cursor; a click calls playFrom(share of its width).
function plot({ audio, called, heard, playFrom }) {
  const picture = make("img");
  picture.alt = `Spectrogram of ${called}: ${heard.text}`;
  picture.draggable = false;
  picture.src = `data:image/png;base64,${heard.image}`;
  const frame = make("div", "listening-picture", picture, make("div", "listening-cursor"));
  frame.addEventListener("click", (event) => {
    const box = frame.getBoundingClientRect();
    playFrom((event.clientX - box.left) / box.width);
  });
  const times = [0, 0.5, 1].map((share) => make("span", "", `${(share * audio.seconds).toFixed(1)} s`));
  return make(
    "div",
    "listening-plot",
    unspoken("listening-high", `${+audio.kilohertz.toFixed(1)} kHz`),
    unspoken("listening-low", "0"),
    frame,
    unspoken("listening-times", ...times),
  );
}

// What one system made of the utterance; returns its element, and what changes in it where it can be played.
function systemRow(index, row) {
  const line = { item: make("li", "listening-row") };
  const title = make("div", "listening-name", make("span", "listening-number", row.digit));
  if (row.heard) {
    line.sign = unspoken("", PLAY);
    line.verb = unseen("Play ");
    line.button = action(row.play, line.sign, " ", line.verb, isolated(row.name));
    title.append(line.button);
  } else title.append(isolated(row.name));
  line.item.append(title);
  if (row.heard && !row.hidden) line.item.append(plot(row));
  else if (row.reason && !row.hidden) line.item.append(make("p", "listening-reason", "No audio: ", isolated(row.reason)));
  if (row.cells.length) {
    const scores = row.cells.map((cell, metric) => scoreItem(index, cell, metric, metric === row.metric));
    line.item.append(make("ul", "listening-scores", ...scores));
    line.item.lastChild.setAttribute("aria-label", "Scores");
  }
  return line;
}

// Worst and best by one metric; a click calls act(metric, utterance, system).
function endsLine(index, [metric, ...ends], act) {
  const { label, unit, arrow } = index.metrics[metric];
  const head = make("th", "", `${label} ${arrow}`);
  head.scope = "row";
  const cells = ends.map(([system, utterance, text], which) => {
    const there = index.utterances[utterance];
    const words = [unseen(`${which ? "Best" : "Worst"} ${label} of `), isolated(index.labels[system]), ": "];
    words.push(isolated(there.label), ` (${text}${unit ? ` ${unit}` : ""})`, there.audio === null ? "" : " ♪");
    return make("td", "", action(() => act(metric, utterance, system), ...words));
  });
  return make("tr", "", head, ...cells);
}
