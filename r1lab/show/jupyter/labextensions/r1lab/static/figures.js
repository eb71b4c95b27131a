// How JupyterLab draws a figure of r1lab: interactive at first sight, as wide as its cell, in the
// colours of the theme, and drawn again whenever the kernel sends it anew. Plotly's own renderer
// shows a saved PNG until the mouse comes, refuses a second drawing and writes PNGs into the
// notebook. This one borrows its plotly.js. Plain JavaScript: JupyterLab loads it without a build.
(() => {
  const MARK = "application/vnd.r1lab.figure+json"; // {width}: the most that the figure wants
  const PLOTLY = "application/vnd.plotly.v1+json";
  const LOST = "Error displaying widget: model not found";
  const NO_KERNEL = "The controls of this cell need its kernel: run the cell to move them.";
  const DARK = {
    "#000000": "#f2f2f2",
    "#222222": "#d8d8d8",
    "#555555": "#b0b0b0",
    "#e6e6e6": "#3a3a3a",
    '"white"': '"rgba(0, 0, 0, 0)"',
    "rgba(255, 255, 255, 0.75)": "rgba(0, 0, 0, 0.55)",
  };

  function wrap(text, width, size) {
    const lines = [""];
    for (const word of text.replaceAll("<br>", " ").split(" ")) {
      const line = lines.at(-1);
      if (line && (line.length + 1 + word.length) * size > width) lines.push(word);
      else lines[lines.length - 1] = line ? `${line} ${word}` : word;
    }
    return lines.join("<br>");
  }

  const count = (text) => (text || "").split("<br>").length;

  // Fewer pixels than the figure was made for: titles and legend take more lines, and panels that
  // would be slits stand one under another.
  function narrow(data, layout, natural, width) {
    const margin = layout.margin;
    const height = layout.height - margin.t - margin.b;
    const room = width - margin.l - margin.r;
    const legend = (all) => {
      const names = data.filter((t) => t.name && t.showlegend !== false).map((t) => t.name.length);
      if (layout.showlegend === false || data.length < 2 || !names.length) return 0;
      const row = Math.max(1, Math.floor((all - margin.l - margin.r) / (52 + 7.4 * Math.max(...names))));
      return Math.ceil(names.length / row);
    };
    margin.b += 28 * Math.max(0, legend(width) - legend(Math.min(natural, 760)));
    const title = layout.title;
    const before = count(title.text);
    title.text = wrap(title.text, room - 110, 8.6);
    const more = Math.max(0, count(title.text) - before);
    margin.t += 22 * more;
    if (title.subtitle?.text) {
      const lines = count(title.subtitle.text);
      title.subtitle.text = wrap(title.subtitle.text, room, 6.9);
      margin.t += 21 * Math.max(0, count(title.subtitle.text) - lines) + (more ? 8 : 0);
    }
    const all = Object.keys(layout).filter((key) => /^xaxis\d*$/.test(key));
    const axes = all.filter((key) => layout[key].domain); // of panels
    const columns = new Set(axes.map((key) => layout[key].domain[0])).size;
    const stacked = columns > 1 && room / columns < 190;
    const wrapped = (axis, space) => {
      const { title } = axis;
      if (!title?.text) return 0;
      const before = count(title.text);
      title.text = wrap(title.text, space, 7.4);
      return 18 * Math.max(0, count(title.text) - before); // px that the new lines take
    };
    const part = ({ domain }) => (stacked || !domain ? 1 : domain[1] - domain[0]);
    const under = Math.max(0, ...all.map((key) => wrapped(layout[key], room * part(layout[key]))));
    margin.b += under;
    layout.height = height + margin.t + margin.b;
    if (stacked) {
      const each = Math.max(170, Math.min(height, 230));
      margin.l += Math.max(...axes.map((key) => wrapped(layout[key.replace("x", "y")], each)));
      // of rows of panels the ticks are turned
      const gap = (axes.length > columns ? 115 : 75) + under;
      const total = (each + gap) * axes.length - gap;
      layout.height = total + margin.t + margin.b;
      axes.forEach((key, row) => {
        const top = 1 - (row * (each + gap)) / total;
        layout[key].domain = [0, 1];
        layout[key.replace("x", "y")].domain = [Math.max(0, top - each / total), top];
      });
    }
    title.y = 1 - (0.03 * 420 + 20 * (count(title.text) - 1)) / layout.height;
  }

  function fitted(spec, natural, width, dark) {
    let text = JSON.stringify(spec);
    if (dark) for (const [light, ink] of Object.entries(DARK)) text = text.replaceAll(light, ink);
    const { data, layout, config } = JSON.parse(text);
    if (width < natural && layout.margin && layout.title) narrow(data, layout, natural, width);
    Object.assign(layout, { width: Math.min(natural, width), autosize: false });
    layout.uirevision ??= "r1lab"; // what was zoomed or hidden stays so when data come
    return [data, layout, config];
  }

  async function extension() {
    const load = await window._JUPYTERLAB["jupyterlab-plotly"].get("./mimeExtension");
    const { RenderedPlotly } = load();
    async function plotly() {
      if (!RenderedPlotly.Plotly) {
        const empty = { data: { [PLOTLY]: { data: [], layout: {} } }, setData() {} };
        await new RenderedPlotly({ mimeType: PLOTLY }).createGraph(empty);
      }
      return RenderedPlotly.Plotly;
    }

    class Figure extends RenderedPlotly {
      constructor(options) {
        super(options);
        this.plot = document.createElement("div");
        this.node.replaceChildren(this.plot);
        this.node.style.cssText = "width: 100%; overflow: hidden";
        this.drawn = Promise.resolve();
        this.resized = new ResizeObserver(() => this.draw());
        this.seen = new IntersectionObserver((entries) => {
          this.near = entries.at(-1).isIntersecting;
          this.draw();
        });
        this.themed = new MutationObserver(() => this.draw());
      }
      renderModel(model) {
        this.spec = model.data[PLOTLY];
        this.plot.setAttribute("role", "figure");
        this.plot.setAttribute("aria-label", model.data["text/plain"] || "figure");
        if (!this.natural) {
          this.node.style.minHeight = `${this.spec.layout.height}px`; // the page does not jump
          this.resized.observe(this.node);
          this.seen.observe(this.node);
          const theme = { attributes: true, attributeFilter: ["data-jp-theme-light"] };
          this.themed.observe(document.body, theme);
        }
        this.natural = model.data[MARK].width;
        this.look = ""; // to be drawn anew
        return this.draw();
      }
      draw() {
        this.drawn = this.drawn.then(() => this.redraw()).catch(console.error);
        return this.drawn;
      }
      async redraw() {
        const Plotly = await plotly();
        const width = this.node.clientWidth;
        const dark = document.body.dataset.jpThemeLight === "false";
        const look = `${width} ${dark}`;
        // Out of sight nothing has a size: plotly would lay title and subtitle over each other.
        const hidden = this.node.checkVisibility?.({ contentVisibilityAuto: true }) === false;
        if (hidden && this.near && !this.isDisposed) setTimeout(() => this.draw(), 100);
        if (this.isDisposed || hidden || !width || look === this.look) return;
        this.look = look;
        const [data, layout, config] = fitted(this.spec, this.natural, width, dark);
        this.node.style.minHeight = `${layout.height}px`;
        await Plotly.react(this.plot, data, layout, config);
      }
      onUpdateRequest() {}
      onResize() {}
      onAfterShow() {}
      dispose() {
        this.resized.disconnect();
        this.seen.disconnect();
        this.themed.disconnect();
        RenderedPlotly.Plotly?.purge(this.plot);
        super.dispose();
      }
    }

    // A saved control of a kernel that is gone: a sentence, not an error.
    new MutationObserver((changes) => {
      for (const node of changes.flatMap((change) => [...change.addedNodes]))
        if (node.nodeType === Node.TEXT_NODE && node.data === LOST) node.data = NO_KERNEL;
    }).observe(document.body, { childList: true, subtree: true });

    const createRenderer = (options) => new Figure(options);
    const rendererFactory = { safe: true, mimeTypes: [MARK], createRenderer };
    return [{ id: "r1lab:figures", rank: 0, dataType: "json", rendererFactory }];
  }

  window._JUPYTERLAB ??= {};
  window._JUPYTERLAB.r1lab = {
    init() {},
    async get() {
      const plugins = await extension();
      return () => ({ __esModule: true, default: plugins });
    },
  };
})();
