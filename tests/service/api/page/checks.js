/** What the page's pure functions promise, for node or a browser: each check throws if it fails. */

import { parse } from "../../../../service/api/page/events.js";
import * as format from "../../../../service/api/page/format.js";
import * as scale from "../../../../service/api/page/scale.js";

function same(found, expected) {
  const [one, two] = [found, expected].map((value) => JSON.stringify(value));
  if (one !== two) throw new Error(`${one}, expected ${two}`);
}

export const checks = {
  "bytes have three digits and binary units": () => {
    const shown = [0, 1, 1023, 1024, 1536, 10240, 102400, 1023.6 * 1024, 5 * 2 ** 30].map(
      format.bytes,
    );
    const expected = ["0 B", "1 B", "1023 B", "1.00 KiB", "1.50 KiB", "10.0 KiB", "100 KiB"];
    same(shown, [...expected, "1.00 MiB", "5.00 GiB"]);
    same([format.bytes(-2048), format.bytes(null)], ["−2.00 KiB", "–"]);
  },
  "large numbers are short": () => {
    same([999, 999.96, 2000, 12345, 184234, 2.5e6].map(format.compact), [
      "999",
      "1k",
      "2k",
      "12.3k",
      "184k",
      "2.5M",
    ]);
    same(format.whole(1234567), "1,234,567");
  },
  "differences have a sign, and nothing has both": () => {
    same(
      [0.0123, -0.0123, 0, -0.00001].map((by) => format.signed(by)),
      ["+0.0123", "−0.0123", "±0.0000", "±0.0000"],
    );
  },
  "what has exploded stays short": () => {
    same([0.44828, -1.5, 1.312e29].map(format.score), ["0.4483", "-1.5000", "1.312e+29"]);
    same([9.99e11, 1.3e29].map(format.compact), ["999G", "1.3e+29"]);
  },
  "durations show their two largest units": () => {
    const shown = [0.04, 9.94, 42, 59.7, 61, 3725, 172800].map(format.duration);
    same(shown, ["0.0 s", "9.9 s", "42 s", "1 min 00 s", "1 min 01 s", "1 h 02 min", "2 d 00 h"]);
  },
  "moments are seconds or ISO 8601": () => {
    same(format.time(1_700_000_000), format.time("2023-11-14T22:13:20Z"));
    same(format.elapsed(100, null, 130_000), 30);
    same(format.elapsed(null, null), null);
    same(format.ago(1000, 1_090_000), "2 min ago");
  },
  "ticks are round, ascending and within": () => {
    same(scale.ticks([0, 1], 5), [0, 0.2, 0.4, 0.6, 0.8, 1]);
    same(scale.ticks([0.7352, 0.7912], 4), [0.74, 0.76, 0.78]);
    same(scale.ticks([-3, 12000], 3), [0, 5000, 10000]);
    same(scale.decimals(scale.ticks([0.7352, 0.7912], 4)), 2);
  },
  "ticks exist for a single value": () => {
    const domain = scale.padded([0.5, 0.5]);
    if (!scale.ticks(domain).length) throw new Error("no tick");
  },
  "bytes are marked at powers of two": () => {
    same(scale.powers([30e6, 300e6]), [2 ** 25, 2 ** 26, 2 ** 27, 2 ** 28]);
    if (scale.powers([1, 2 ** 40], 5).length > 5) throw new Error("more than asked for");
  },
  "equal factors are equally far apart": () => {
    const place = scale.logarithmic([1, 16], [0, 100]);
    same(
      [1, 4, 16].map((value) => Math.round(place(value))),
      [0, 50, 100],
    );
  },
  "thinning keeps both ends of a spike": () => {
    const points = Array.from({ length: 10000 }, (_, step) => [
      step,
      step === 5000 ? 9 : step === 5001 ? -9 : 0,
    ]);
    const kept = scale.thinned(points, 100);
    same(scale.extent(kept.map(([, value]) => value)), [-9, 9]);
    if (kept.length > 200) throw new Error(`${kept.length} points`);
    same(
      kept.every(([step], index) => !index || step > kept[index - 1][0]),
      true,
    );
  },
  "a mean of what never changes is that": () => {
    same(
      scale
        .smoothed(
          [
            [0, 2],
            [1, 2],
            [2, 2],
          ],
          10,
        )
        .map(([, value]) => value),
      [2, 2, 2],
    );
  },
  "the nearest point is found as by looking at all": () => {
    const points = [1, 3, 4, 10, 11].map((step) => [step, 0]);
    for (let x = -1; x < 13; x += 0.25) {
      const far = points.map(([step]) => Math.abs(step - x));
      same(far[scale.nearest(points, x)], Math.min(...far));
    }
  },
  "no figures have no extent": () => {
    same(scale.extent([null, NaN]), null);
  },
  "events of a stream keep their lines and ids": () => {
    same(parse("id: 42\ndata: a: b\ndata:\ndata:  c"), {
      id: "42",
      type: "message",
      data: "a: b\n\n c",
    });
    same(parse("event: end\ndata:"), { id: "", type: "end", data: "" });
    same(parse(": keep-alive"), null);
  },
};
