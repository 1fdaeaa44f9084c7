"use strict";
// Makes the pages quicker to use. Without it everything works as well.
const table = document.querySelector("table.list");
const links = () => [...document.querySelectorAll("table.list tbody tr")].filter((row) => row.querySelector("a"));
let here = -1;

function move(step) {
  const rows = links();
  if (!rows.length) return;
  rows[here]?.classList.remove("here");
  here = Math.min(Math.max(here + step, 0), rows.length - 1);
  rows[here].classList.add("here");
  rows[here].querySelector("a").focus();
  rows[here].scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const follow = (rel) => document.querySelector(`a[rel=${rel}]`)?.click();
  const keys = { j: () => move(1), k: () => move(-1), h: () => follow("prev"), l: () => follow("next"),
    "/": () => document.querySelector(".filters input[name=market]")?.focus() };
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});

for (const pick of document.querySelectorAll(".runs select")) pick.addEventListener("change", () => pick.form.submit());

const reveal = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  const closed = target && target.closest("details:not([open])");
  if (closed) { closed.open = true; target.scrollIntoView({ block: "center" }); }
};
addEventListener("hashchange", reveal);
reveal();
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));

if (table?.dataset.tail) {
  const news = new EventSource(table.dataset.tail);
  news.onmessage = (event) => {
    const body = document.createElement("template");
    body.innerHTML = JSON.parse(event.data);
    for (const row of body.content.querySelectorAll("tr")) row.classList.add("fresh");
    table.tBodies[0].prepend(body.content);
    while (table.tBodies[0].rows.length > 200) table.tBodies[0].lastElementChild.remove();
  };
}
