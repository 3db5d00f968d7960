/** What charts share: they draw themselves whenever their data or their width changes. */

/** An element that is given `data`; whoever extends it draws `this.data`, `this.width` wide. */
export class Chart extends HTMLElement {
  #data = null;
  #width = 0;
  #resized = new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width === this.#width) return;
    this.#width = width;
    this.redraw();
  });

  set data(value) {
    this.#data = value;
    this.redraw();
  }

  get data() {
    return this.#data;
  }

  get width() {
    return this.#width;
  }

  connectedCallback() {
    this.#resized.observe(this);
  }

  disconnectedCallback() {
    this.#resized.disconnect();
  }

  /** Draw, as soon as there are data and a place for them. */
  redraw() {
    if (this.#data && this.#width) this.draw();
  }
}
