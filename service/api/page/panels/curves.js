/** Loss and quality of a run over its steps, kept up to date while it trains. */

import { callIfThere } from "../api.js";
import { h } from "../dom.js";
import { compact, score } from "../format.js";
import "../line-chart.js";

const QUALITY = ["auc", "mse"];
const TITLES = { auc: "AUC, validation", mse: "MSE, validation" };

/** The lines of a run's metrics, fetched piece by piece. */
export class Metrics {
  #kinds = { train: [], validation: [] };

  constructor(run) {
    this.run = run;
  }

  /** Ask for what has been written since the last time; true where there was any. */
  async refresh(signal) {
    const news = await Promise.all(
      Object.keys(this.#kinds).map((kind) => this.#more(kind, signal)),
    );
    return news.some(Boolean);
  }

  async #more(kind, signal) {
    const known = this.#kinds[kind];
    const query = { kind, since: known.at(-1)?.step };
    const answer = await callIfThere(`runs/${this.run}/metrics`, { query, signal });
    const last = known.at(-1)?.step ?? -1;
    const items = (answer?.items ?? []).filter(({ step }) => step > last);
    known.push(...items);
    return items.length > 0;
  }

  /** Steps and values of a figure; lines that do not have it are passed over. */
  points(kind, name) {
    const lines = this.#kinds[kind].filter((line) => Number.isFinite(line[name]));
    return lines.map((line) => [line.step, line[name]]);
  }

  /** The score that validations of this run have: AUC of clicks, MSE of ratings. */
  get quality() {
    return QUALITY.find((name) => this.points("validation", name).length) ?? "auc";
  }
}

/** Charts of one run, or of several over each other: `runs` are pairs of name and `Metrics`. */
export function curves(runs) {
  const quality =
    runs.map(([, metrics]) => metrics.quality).find((name) => name !== "auc") ?? "auc";
  const charts = [
    ["Loss, training", "train", "loss", "min", score],
    [TITLES[quality], "validation", quality, quality === "auc" ? "max" : "min", score],
    ["Log loss, validation", "validation", "log_loss", "min", score],
    ["Examples per second", "train", "examples_per_second", "max", compact],
  ];
  const shown = charts.filter(([, , name]) => name !== "log_loss" || quality === "auc");
  return h(
    "div",
    { class: "charts" },
    shown.map(([title, kind, name, best, format]) => {
      const series = runs.map(([run, metrics], place) => ({
        name: runs.length > 1 ? run : title,
        place,
        points: metrics.points(kind, name),
      }));
      const empty = `No ${kind === "train" ? "step" : "validation"} has been logged yet.`;
      return h("line-chart", { key: title, data: { title, series, best, format, empty } });
    }),
  );
}
