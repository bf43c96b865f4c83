"use strict";
// The page works without this script: the viewer and its controls stay hidden, and the figure shows.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const state = { map: 0, limit: 1, ready: false };
  let nv = null;
  let image = null;
  let overlay = null;

  async function unpack(text) {
    const raw = atob(text);
    const zipped = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) zipped[i] = raw.charCodeAt(i);
    const stream = new Blob([zipped]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  function fallBack(why) {
    at("viewer").hidden = at("controls").hidden = true;
    at("static").hidden = false;
    at("static-why").textContent = why;
  }

  // --- colours: those of the figures, from the theme -------------------------------------------

  // What the viewer gets is not the map but its colours, on the image's grid. So colour and opacity
  // stand for the value wherever the threshold is, and a map on a coarse grid is drawn smooth.

  function placed(one, buffer) {
    // linear interpolation of the map (16 bits, surrounded by zeros) at the image's voxels
    const view = new DataView(buffer);
    const [nx, ny, nz] = [42, 44, 46].map((place) => view.getInt16(place, true));
    const slope = view.getFloat32(112, true);
    const steps = new Int16Array(buffer, view.getFloat32(108, true));
    const [NX, NY, NZ] = data.grid, m = one.from_image, out = new Float32Array(NX * NY * NZ);
    let at = 0;
    for (let k = 0; k < NZ; k++) for (let j = 0; j < NY; j++) for (let i = 0; i < NX; i++, at++) {
      const x = m[0][0] * i + m[0][1] * j + m[0][2] * k + m[0][3];
      const y = m[1][0] * i + m[1][1] * j + m[1][2] * k + m[1][3];
      const z = m[2][0] * i + m[2][1] * j + m[2][2] * k + m[2][3];
      if (!(x >= 0 && y >= 0 && z >= 0 && x <= nx - 1 && y <= ny - 1 && z <= nz - 1)) continue;
      const x0 = Math.min(Math.floor(x), nx - 2), y0 = Math.min(Math.floor(y), ny - 2), z0 = Math.min(Math.floor(z), nz - 2);
      const u = x - x0, v = y - y0, w = z - z0, a = x0 + nx * (y0 + ny * z0), b = a + nx, c = a + nx * ny, d = c + nx;
      out[at] = slope * (
        (1 - w) * ((1 - v) * ((1 - u) * steps[a] + u * steps[a + 1]) + v * ((1 - u) * steps[b] + u * steps[b + 1]))
        + w * ((1 - v) * ((1 - u) * steps[c] + u * steps[c + 1]) + v * ((1 - u) * steps[d] + u * steps[d + 1])));
    }
    return out;
  }

  function coloured() {
    // Red, green, blue and opacity of every share of the limit, from lowest to highest.
    const threshold = Number(at("threshold").value) / 100, opacity = Number(at("opacity").value) / 100;
    const up = at("positive").checked, down = at("negative").checked;
    const table = new Uint8Array(4 * 1025);
    for (let i = 0; i < 1025; i++) {
      const share = (i - 512) / 512;
      const seen = Math.abs(share) >= threshold && (share > 0 ? up : down);
      const place = Math.round(((share + 1) / 2) * (data.colours.length - 1));
      table.set(data.colours[place], 4 * i);
      table[4 * i + 3] = seen ? Math.round(255 * opacity * Math.abs(share)) : 0;
    }
    return new Uint32Array(table.buffer);
  }

  function greys(cut) {
    // In the planes everything is opaque; in three dimensions what is darker than `cut` is not seen.
    const map = { R: [], G: [], B: [], A: [], I: [] };
    for (let i = 0; i < 256; i++) {
      map.R.push(i); map.G.push(i); map.B.push(i); map.I.push(i);
      const over = (i / 255 - cut) / Math.max(1e-6, 1 - cut);
      map.A.push(over <= 0 ? 0 : Math.round(12 + 100 * over));
    }
    return map;
  }

  function paint() {
    at("threshold-value").textContent = number((Number(at("threshold").value) / 100) * state.limit);
    at("opacity-value").textContent = `${at("opacity").value} %`;
    const table = coloured(), scale = 512 / state.limit, values = state.values;
    const pixels = new Uint32Array(overlay.img.buffer, overlay.img.byteOffset, values.length);
    for (let i = 0; i < values.length; i++) {
      const place = Math.round(512 + scale * values[i]);
      pixels[i] = table[place < 0 ? 0 : place > 1024 ? 1024 : place];
    }
    legend(table);
    if (!state.ready) return;
    nv.refreshLayers(overlay, 1);
    nv.drawScene();
  }

  function cutImage() {
    const cut = Number(at("cut").value) / 100;
    at("cut-value").textContent = cut === 1 ? "hidden" : `over ${at("cut").value} %`;
    nv.addColormap("respondcam-grey", greys(cut));
    image._colormap = "respondcam-grey";
    if (state.ready) nv.updateGLVolume();
  }

  function legend(table) {
    const bar = at("legend-bar"), pen = bar.getContext("2d");
    const rgba = new Uint8Array(table.buffer);
    for (let i = 0; i < bar.width; i++) {
      const place = Math.round((1024 * i) / (bar.width - 1));
      const [r, g, b, a] = rgba.subarray(4 * place, 4 * place + 4);
      const mix = [r, g, b].map((c) => Math.round((c * a) / 255 + 110 * (1 - a / 255)));
      pen.fillStyle = `rgb(${mix.join(",")})`;
      pen.fillRect(i, 0, 1, bar.height);
    }
  }

  // --- numbers and places ----------------------------------------------------------------------

  function number(value) {
    if (value === 0) return "0";
    const size = Math.abs(value);
    const text = size >= 1e-3 && size < 1e5 ? Number(value.toPrecision(3)).toString()
      : value.toExponential(2);
    return text.replace(/-/g, "\u2212");
  }

  function times(matrix, [x, y, z]) {
    return matrix.slice(0, 3).map((row) => row[0] * x + row[1] * y + row[2] * z + row[3]);
  }

  function voxelHere() {
    // of the stored array, z, y, x
    const mm = nv.frac2mm(nv.scene.crosshairPos, 0, true);
    return times(data.index_of_world, [mm[0], mm[1], mm[2]]).reverse();
  }

  function goTo(zyx) {
    const world = times(data.world_of_index, [zyx[2], zyx[1], zyx[0]]);
    nv.scene.crosshairPos = nv.mm2frac(world, 0, true);
    nv.drawScene();
    told();
  }

  function valueHere() {
    // of the map, interpolated as it is drawn, at the nearest voxel of the image on this page
    const mm = nv.frac2mm(nv.scene.crosshairPos, 0, true);
    const at = times(data.image_of_world, [mm[0], mm[1], mm[2]]).map((v, axis) =>
      Math.min(data.grid[axis] - 1, Math.max(0, Math.round(v))));
    const place = at[0] + data.grid[0] * (at[1] + data.grid[1] * at[2]);
    return [state.grey[place] * state.slope + state.inter, state.values[place]];
  }

  function told() {
    if (!state.ready) return;
    const mm = nv.frac2mm(nv.scene.crosshairPos, 0, true);
    const here = voxelHere().map((v, axis) =>
      Math.min(data.shape[axis] - 1, Math.max(0, Math.round(v))));
    const world = data.unit ? ` · x, y, z = ${[0, 1, 2].map((i) => number(Math.abs(mm[i]) < 1e-3 * data.step_xyz[i] ? 0 : mm[i])).join(", ")} ${data.unit}` : "";
    const [grey, signed] = valueHere();
    at("where").textContent = `Voxel ${here.join(", ")} (z, y, x)${world} · image ${number(grey)} · map ${number(signed)} (interpolated)`;
    ["z", "y", "x"].forEach((axis, i) => {
      at(`at-${axis}`).value = here[i];
      at(`at-${axis}-value`).textContent = `${here[i]}`;
    });
    marks(here);
  }

  function marks(here) {
    // the names of the planes in their corners, and a bar of a round length
    const planes = nv.screenSlices.filter((one) => one.axCorSag <= 2);
    const slice = planes.find((one) => one.axCorSag === 0) || planes[0];
    at("scale").hidden = !slice;
    const density = at("canvas").width / at("canvas").clientWidth;
    for (let plane = 0; plane < 3; plane++) {
      const shown = planes.find((one) => one.axCorSag === plane), mark = at(`plane-${plane}`);
      mark.hidden = !shown;
      const box = shown ? shown.leftTopWidthHeight.map((length) => length / density) : null;
      if (!shown) {
        sides(plane, null);
        continue;
      }
      mark.style.left = `${box[0] + 6}px`;
      mark.style.top = `${box[1] + 4}px`;
      mark.textContent = `${data.planes[plane]} ${here[data.across[plane]]}`;
      sides(plane, box);
      // in a narrow plane its name reaches the middle, where the upper letter stands
      const letter = at(`side-${plane}-top`), over = within(mark).right + 4 - within(letter).left;
      if (!letter.hidden && over > 0) letter.style.left = `${parseFloat(letter.style.left) + over}px`;
    }
    if (!slice) return;
    const [left, top, , height] = slice.leftTopWidthHeight.map((length) => length / density);
    at("scale").style.left = `calc(${left}px + .8rem)`;
    at("scale").style.top = `calc(${top + height}px - 2rem)`;
    const perUnit = slice.leftTopWidthHeight[2] / density / Math.abs(slice.fovMM[0]);
    const longest = 110 / perUnit, power = 10 ** Math.floor(Math.log10(longest));
    const length = [5, 2, 1].find((step) => step * power <= longest) * power;
    at("scale-bar").style.width = `${length * perUnit}px`;
    at("scale-text").textContent = `${number(length)} ${data.unit || (length === 1 ? "voxel" : "voxels")}`;
    const below = at(`side-${slice.axCorSag}-bottom`);
    const covered = !below.hidden && within(at("scale")).right > within(below).left - 4;
    if (covered) at("scale").style.top = `calc(${top + height}px - 3.6rem)`;
  }

  function within(mark) {
    return mark.getBoundingClientRect();
  }

  function sides(plane, box) {
    // the patient's sides as letters on all four edges; the viewer's own are cut off, on one side
    const [left, right] = at("radiological").checked ? ["R", "L"] : ["L", "R"];
    const names = [[left, right, "A", "P"], [left, right, "S", "I"], ["P", "A", "S", "I"]][plane];
    ["left", "right", "top", "bottom"].forEach((side, i) => {
      const mark = at(`side-${plane}-${side}`);
      mark.hidden = !box || !data.letters;
      if (mark.hidden) return;
      mark.textContent = names[i];
      mark.style.left = `${box[0] + [0, 1, 0.5, 0.5][i] * box[2]}px`;
      mark.style.top = `${box[1] + [0.5, 0.5, 0, 1][i] * box[3]}px`;
    });
  }

  // --- what is chosen --------------------------------------------------------------------------

  const unique = (list) => [...new Set(list)];
  const targets = unique(data.maps.map((one) => one.target));
  const layers = unique(data.maps.map((one) => one.layer));
  const methods = unique(data.maps.map((one) => one.method));

  function chosen() {
    const target = targets[Number(document.querySelector("input[name=target]:checked").value)];
    const layer = layers[Number(at("layer").value)], method = methods[Number(at("method").value)];
    const find = (...keys) => data.maps.findIndex((one) =>
      one.target === target && keys.every(([key, value]) => one[key] === value));
    for (const keys of [[["layer", layer], ["method", method]], [["layer", layer]], [["method", method]], []]) {
      const found = find(...keys);
      if (found >= 0) return found;
    }
    return 0;
  }

  function options() {
    targets.forEach((target, index) => {
      const label = document.createElement("label"), input = document.createElement("input");
      Object.assign(input, { type: "radio", name: "target", value: index, defaultChecked: index === 0 });
      const name = document.createElement("span"), score = document.createElement("span");
      name.textContent = target;
      const first = data.maps.find((one) => one.target === target);
      score.textContent = first.score;
      score.className = "n";
      label.append(input, name, score);
      at("targets").append(label);
    });
    for (const [id, names] of [["layer", layers], ["method", methods]]) {
      names.forEach((name, index) => at(id).add(new Option(name, index)));
      at(`${id}-row`).hidden = names.length < 2;
    }
  }

  async function show(index) {
    const one = data.maps[index];
    state.map = index;
    state.limit = one.limit || 1;
    at("headline").textContent = one.headline;
    at("sentence").textContent = one.sentence;
    at("alert").textContent = one.alert;
    at("legend-low").textContent = `\u2212${number(state.limit)}`;
    at("legend-high").textContent = `+${number(state.limit)}`;
    at("legend-per").textContent = one.scale;
    for (const [side, words] of [["lowers", one.low], ["raises", one.high]]) {
      at(`legend-${side}`).textContent = words;
      at(`show-${side}`).textContent = words.replace(/ the score$/, "");
    }
    at("layer").value = layers.indexOf(one.layer);
    at("method").value = methods.indexOf(one.method);
    document.querySelectorAll("#accounts tbody tr").forEach((row) =>
      row.classList.toggle("shown", Number(row.dataset.map) === index));
    const buffer = await unpack(one.packed);
    if (state.map !== index) return; // another one was chosen meanwhile
    state.values = placed(one, buffer);
    paint();
    told();
  }

  // Without a graphics card every second counts, so nothing is computed that this page never shows.

  function knownWindow() {
    // black and white are known: no search through all voxels for them
    niivue.NVImage.prototype.calMinMax = function () {
      const [low, high] = data.window;
      this.cal_min = this.robust_min = this.global_min = low;
      this.cal_max = this.robust_max = this.global_max = high;
      return [low, high, low, high];
    };
  }

  function withoutLight() {
    // the slopes of the image light its surface, which is switched off here (no illumination)
    const blur = nv.blurShader, refresh = nv.refreshLayers, gl = nv.gl;
    if (!blur) return;
    const use = blur.use;
    blur.use = (...given) => {
      use.apply(blur, given);
      gl.drawArrays = () => {};
    };
    nv.refreshLayers = (...given) => {
      try {
        refresh.apply(nv, given);
      } finally {
        delete gl.drawArrays;
      }
    };
  }

  function nextFrame() {
    return new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
  }

  async function addImage() {
    const buffer = await unpack(data.volume), view = new DataView(buffer);
    const start = view.getFloat32(108, true);
    state.grey = new Int16Array(buffer, start);
    state.slope = view.getFloat32(112, true);
    state.inter = view.getFloat32(116, true);
    state.values = new Float32Array(state.grey.length);
    knownWindow();
    image = await niivue.NVImage.new(buffer.slice(0), "image.nii");
    // the colours lie on the same grid: the same header, but four bytes for red, green, blue, opacity
    const colours = new ArrayBuffer(start + 4 * state.grey.length);
    new Uint8Array(colours).set(new Uint8Array(buffer, 0, start));
    const header = new DataView(colours);
    header.setInt16(70, 2304, true);
    header.setInt16(72, 32, true);
    header.setFloat32(112, 1, true);
    header.setFloat32(116, 0, true);
    overlay = await niivue.NVImage.new(colours, "map.nii");
  }

  function layout() {
    nv.opts.isRadiologicalConvention = at("radiological").checked; // its setter would compute anew
    const view = at("view").value;
    if (view === "multi") {
      nv.customLayout = data.tiles; // its setter would draw once more
      nv.setSliceType(3);
    } else {
      nv.customLayout = null;
      nv.setSliceType(Number(view));
    }
    told();
  }

  function listen() {
    for (const id of ["threshold", "opacity", "positive", "negative"]) at(id).addEventListener("input", paint);
    at("cut").addEventListener("input", cutImage);
    at("targets").addEventListener("change", () => show(chosen()));
    for (const id of ["layer", "method"]) at(id).addEventListener("change", () => show(chosen()));
    for (const id of ["view", "radiological"]) at(id).addEventListener("change", layout);
    ["z", "y", "x"].forEach((axis, i) => {
      at(`at-${axis}`).max = data.shape[i] - 1;
      at(`at-${axis}`).addEventListener("input", () => {
        const here = ["z", "y", "x"].map((name) => Number(at(`at-${name}`).value));
        goTo(here);
      });
    });
    at("peak").addEventListener("click", () => goTo(data.maps[state.map].peak));
    at("again").addEventListener("click", () => {
      document.body.dataset.ready = "no";
      at("controls").reset();
      nv.setPan2Dxyzmm([0, 0, 0, 1]);
      nv.setRenderAzimuthElevation(330, 25);
      nv.setScale(1);
      layout();
      cutImage();
      show(0).then(() => {
        goTo(data.maps[0].peak);
        document.body.dataset.ready = "yes";
      });
    });
    at("controls").addEventListener("submit", (event) => event.preventDefault());
    at("canvas").addEventListener("keydown", keys, true);
    window.addEventListener("resize", () => requestAnimationFrame(told));
  }

  function keys(event) {
    // Only these keys are ours; the viewer's own one-letter keys would surprise.
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 1], ArrowDown: [1, -1], PageUp: [2, 1], PageDown: [2, -1] };
    event.stopImmediatePropagation();
    const step = steps[event.key];
    if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    // along the world's axes, by the voxel that runs along them
    const mm = [...nv.frac2mm(nv.scene.crosshairPos, 0, true)].slice(0, 3);
    const turned = step[0] === 0 && at("radiological").checked ? -1 : 1;
    mm[step[0]] += turned * step[1] * data.step_xyz[step[0]];
    const inside = times(data.index_of_world, mm).reverse();
    goTo(inside.map((v, axis) => Math.min(data.shape[axis] - 1, Math.max(0, v))));
  }

  async function start() {
    options();
    at("viewer").hidden = at("controls").hidden = false;
    at("sides-row").hidden = !data.letters;
    at("stage").style.aspectRatio = `${data.aspect}`;
    // so low that the planes and the line that tells the place fit below the heading
    at("stage").style.maxWidth = `calc(max(28rem, 100vh - 10.5rem) * ${data.aspect})`;
    nv = new niivue.Niivue({
      backColor: [0.086, 0.094, 0.11, 1],
      crosshairColor: [1, 1, 1, 0.75],
      crosshairWidth: 1,
      crosshairWidthUnit: "percent",
      crosshairGap: 6,
      fontColor: [0.95, 0.95, 0.95, 1],
      show3Dcrosshair: false,
      isColorbar: false,
      isOrientCube: false,
      isOrientationTextVisible: false,
      isRadiologicalConvention: false,
      isSliceMM: false,
      multiplanarPadPixels: 6,
      dragAndDropEnabled: false,
      logLevel: "error",
      loadingText: "",
    });
    nv.opts.crosshairWidth = 0.25;
    await nv.attachToCanvas(at("canvas"), false);
    withoutLight();
    nv.onLocationChange = told;
    await addImage();
    await show(0);
    cutImage();
    // one picture at the end, not one after each of these: without a graphics card each takes long
    nv.drawScene = () => {};
    nv.volumes = [image];
    nv.addVolume(overlay); // and with it the image: adding each would compute everything twice
    nv.setRenderAzimuthElevation(330, 25);
    layout();
    delete nv.drawScene;
    state.ready = true;
    // the planes first: they are there in no time, and the view in three dimensions is not
    nv.draw3D = () => {};
    goTo(data.maps[0].peak);
    delete nv.draw3D;
    performance.mark("respondcam-planes");
    await nextFrame();
    listen();
    goTo(data.maps[0].peak);
    performance.mark("respondcam-ready");
    document.body.dataset.ready = "yes";
  }

  const probe = document.createElement("canvas").getContext("webgl2");
  if (!probe) {
    fallBack("This browser offers no WebGL2, which the interactive viewer needs. The figure shows the first map.");
  } else {
    start().catch((error) => {
      console.error(error);
      fallBack(`The interactive viewer did not start (${error.message}). The figure shows the first map.`);
    });
  }
})();
