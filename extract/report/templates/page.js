"use strict";
// a line that follows the pointer through all lanes of a sheet and tells the second
for (const lanes of document.querySelectorAll(".lanes")) {
  const track = lanes.querySelector(".axis .track");
  const seconds = Number(lanes.dataset.seconds);
  if (!track || !seconds) continue;
  const line = document.createElement("div");
  line.className = "cursor";
  line.hidden = true;
  lanes.append(line);
  lanes.addEventListener("pointermove", (event) => {
    const box = track.getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    line.hidden = share < 0 || share > 1;
    if (line.hidden) return;
    line.style.left = `${event.clientX - lanes.getBoundingClientRect().left}px`;
    line.dataset.at = `${(share * seconds).toFixed(2)} s`;
  });
  lanes.addEventListener("pointerleave", () => { line.hidden = true; });
}
// printing shows what is folded away
addEventListener("beforeprint", () => { for (const each of document.querySelectorAll("details")) each.open = true; });
