/** How wide every table of a run is and why; where the tables live. */

import { h } from "../dom.js";
import { bytes, percent, whole } from "../format.js";
import { dataTable, empty, nextOrder, sorted } from "../parts.js";

const COLUMNS = [
  { title: "Field", isHead: true, cell: (row) => row.field, sort: (row) => row.field },
  { title: "Ids", isNumber: true, cell: (row) => whole(row.ids), sort: (row) => row.ids },
  {
    title: "Coverage",
    isNumber: true,
    cell: (row) => percent(row.coverage, 1),
    sort: (row) => row.coverage,
  },
  { title: "Asked", isNumber: true, cell: (row) => asked(row.asked), sort: (row) => row.asked },
  { title: "Used", isNumber: true, cell: (row) => widthBar(row), sort: (row) => row.used },
  { title: "Bytes", isNumber: true, cell: (row) => bytes(row.bytes), sort: (row) => row.bytes },
  { title: "Why", cell: (row) => h("span", { class: "why" }, row.why ?? "") },
];

const asked = (width) => (width == null ? "–" : String(Math.round(width * 10) / 10));

function widthBar({ used, widest }) {
  const bar = h("i", {
    class: "width-bar",
    style: { "--share": used / widest },
    "aria-hidden": "true",
  });
  return h("span", { class: "width" }, String(used), bar);
}

/**
 * The explain table.
 *
 * @param {Array<object>|null} rows of `/runs/NAME/explain`
 * @param {object} state keeps the order that the reader has chosen
 * @param {() => void} redraw
 */
export function explainPanel(rows, state, redraw) {
  if (!rows?.length) {
    return empty("No tables yet", "A run has its plan when its training starts.");
  }
  const widest = Math.max(...rows.map(({ used }) => used));
  const columns = COLUMNS.filter(
    ({ title }) => title !== "Coverage" || rows.some((r) => r.coverage),
  );
  const shown = sorted(
    rows.map((row) => ({ ...row, widest })),
    columns,
    state.order,
  );
  const sort = (column) => {
    state.order = nextOrder(state.order, column, columns);
    redraw();
  };
  const sum = (name) => rows.reduce((total, row) => total + (row[name] ?? 0), 0);
  const foot = h(
    "tr",
    {},
    columns.map(({ title, isNumber }) => {
      const text =
        { Field: "All", Ids: whole(sum("ids")), Bytes: bytes(sum("bytes")) }[title] ?? "";
      const props = { class: isNumber ? "number" : null, "data-title": title };
      return title === "Field" ? h("th", { ...props, scope: "row" }, text) : h("td", props, text);
    }),
  );
  const caption = "Tables: ids, asked and used widths, bytes, and why";
  const how = { key: (row) => row.table, order: state.order, sort, foot };
  return h("div", { class: "scroll-x" }, dataTable(caption, columns, shown, how));
}

/** Bytes of every rank, table by table. */
export function placementPanel(placement) {
  const ranks = placement?.ranks ?? [];
  if (!ranks.length) {
    return empty("Not placed yet", "Tables get their ranks when the training starts.");
  }
  const most = Math.max(...ranks.map((rank) => rank.bytes));
  const mean = ranks.reduce((sum, rank) => sum + rank.bytes, 0) / ranks.length;
  const imbalance = mean ? most / mean : 1;
  return h(
    "div",
    { class: "placement" },
    h(
      "p",
      {},
      `${ranks.length} ${ranks.length === 1 ? "rank" : "ranks"}; the fullest holds `,
      h("b", {}, bytes(most)),
      ranks.length > 1 ? `, ${percent(imbalance - 1, 1)} above the mean.` : ".",
    ),
    ranks.map((rank) => rankBar(rank, most)),
  );
}

function rankBar({ rank, bytes: size, tables }, most) {
  const ordered = [...tables].sort((one, two) => two.bytes - one.bytes);
  const parts = ordered.map((table) =>
    h(
      "i",
      {
        class: "part",
        title: `${table.table}: ${bytes(table.bytes)}`,
        style: { "flex-grow": table.bytes || 0.001 },
      },
      table.bytes > 0.07 * most && h("span", {}, table.table),
    ),
  );
  const label = `rank ${rank}: ${bytes(size)} in ${tables.length} tables`;
  return h(
    "section",
    { class: "rank", key: rank, "aria-label": `Rank ${rank}` },
    h("h3", {}, `Rank ${rank}`),
    h(
      "div",
      { class: "rank-bar", role: "img", "aria-label": label },
      h("div", { class: "fill", style: { width: `${(100 * size) / most}%` } }, parts),
    ),
    h("p", { class: "number" }, bytes(size)),
    h(
      "details",
      { class: "as-table" },
      h("summary", {}, `${tables.length} tables`),
      tablesOfRank(rank, ordered),
    ),
  );
}

function tablesOfRank(rank, tables) {
  const columns = [
    { title: "Table", isHead: true, cell: (row) => row.table },
    {
      title: "Sharding",
      cell: (row) => row.sharding.replaceAll("_", "-"),
    },
    { title: "Bytes", isNumber: true, cell: (row) => bytes(row.bytes) },
  ];
  const how = { key: ({ table, rows, columns: width }) => `${table} ${rows} ${width}` };
  return dataTable(`Tables of rank ${rank}`, columns, tables, how);
}
