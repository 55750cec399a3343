"use strict";
// Sorting of the overview: a click on a heading sorts the samples by it, another one turns the order round.
for (const table of document.querySelectorAll("table.overview")) {
  const headings = [...table.querySelectorAll("thead th")];
  const value = (body, column) => {
    const cell = body.rows[0].cells[column];
    const text = cell.dataset.sort ?? cell.textContent.trim();
    const number = Number.parseFloat(text.replace("\u2212", "-"));
    return Number.isNaN(number) ? text.toLowerCase() : number;
  };
  const compare = (a, b) => {
    if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
    return typeof a === "number" ? -1 : 1;
  };
  headings.forEach((heading, column) => {
    heading.querySelector("button")?.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const bodies = [...table.tBodies].map((body) => [value(body, column), body]);
      bodies.sort(([a], [b]) => (down ? compare(b, a) : compare(a, b)));
      table.append(...bodies.map(([, body]) => body));
    });
  });
}

// The slider of a movie: it stands at the times of the results; one method can be shown large at the same place.
for (const player of document.querySelectorAll(".player")) {
  const video = player.querySelector("video");
  const canvas = player.querySelector("canvas");
  const slider = player.querySelector("input[type=range]");
  const label = player.querySelector("output");
  const contents = JSON.parse(player.querySelector("script[type='application/json']").textContent);
  const choices = [...player.querySelectorAll("input[type=radio]")];
  const draw = () => {
    const panel = contents.panels[Number(choices.find((choice) => choice.checked)?.value ?? -1)];
    video.hidden = Boolean(panel);
    canvas.hidden = !panel;
    if (!panel || !video.videoWidth) return;
    const scale = video.videoWidth / contents.size[0];
    const [x, y, width, height] = panel.box;
    canvas.width = width;
    canvas.height = height;
    canvas.style.width = `min(100%, ${(80 * width) / height}vh)`;
    const source = [x, y, width, height].map((length) => length * scale);
    canvas.getContext("2d").drawImage(video, ...source, 0, 0, width, height);
  };
  const show = () => {
    const time = contents.times[slider.valueAsNumber];
    label.textContent = time.label;
    slider.setAttribute("aria-valuetext", time.label);
  };
  const seek = () => {
    video.pause();
    show();
    video.currentTime = (contents.times[slider.valueAsNumber].frame + 0.5) / contents.frames_per_second;
  };
  const follow = () => {
    const frame = Math.floor(video.currentTime * contents.frames_per_second + 1e-3);
    const passed = contents.times.filter((time) => time.frame <= frame).length;
    slider.valueAsNumber = Math.max(0, passed - 1);
    show();
    draw();
  };
  slider.addEventListener("input", seek);
  video.addEventListener("timeupdate", () => { if (!video.paused) follow(); });
  for (const event of ["seeked", "loadeddata"]) video.addEventListener(event, draw);
  video.addEventListener("pause", follow);
  for (const choice of choices) choice.addEventListener("change", draw);
  player.querySelector("button.play").addEventListener("click", () => (video.paused ? video.play() : video.pause()));
  player.querySelector(".controls").hidden = false;
  show();
}
