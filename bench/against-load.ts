/**
 * Compares Millrace with a bare load of the same rows: alternating rounds, the counts at both destinations, and the report.
 */
import { Backlog, type Kind, type Replayed, type Work } from "./backlog.ts";
import { type BenchOptions, type BenchReport, type Line, median, type Ratio } from "./report.ts";

/** One kind of target, with a place for Millrace and an equal one for the bare load. */
export interface LoadTarget extends AsyncDisposable {
  /** The daemon's sink in millrace.yaml. */
  sink(folder: string): object;
  /** The peer's name in the table. */
  readonly peer: string;
  /** The server's process, if there is one besides the daemon. */
  readonly serverPid: number | undefined;
  /** Called after the daemon has created its empty tables: creates the same ones for the peer. */
  prepare(backlog: Backlog): Promise<void>;
  /** Whether the row of `mark` with this name is in Millrace's place. */
  hasMark(name: string, backlog: Backlog): Promise<boolean>;
  /** Loads the work's resulting rows from memory. */
  load(work: Work, backlog: Backlog): Promise<Loaded>;
  /** Rows of `orders` in Millrace's place and in the peer's; while no daemon runs. */
  count(): Promise<{ readonly own: number; readonly peer: number }>;
}

export interface Loaded {
  readonly seconds: number;
  /** Processor time of the peer, and of the target's server; absent: not measured. */
  readonly cpuSeconds?: { readonly peer: number; readonly server: number };
}

interface Round {
  readonly own: Replayed;
  readonly peer: Loaded;
}

export async function againstLoad(
  name: string,
  target: LoadTarget,
  { rowCount, wanted }: { readonly rowCount: number; readonly wanted: number },
  { runs, log }: BenchOptions,
): Promise<BenchReport> {
  await using backlog = await Backlog.create((folder) => target.sink(folder));
  await target.prepare(backlog);
  const rounds = new Map<Kind, Round[]>([
    ["inserts", []],
    ["updates", []],
  ]);
  for (let round = 0; round < runs; round++) {
    for (const [kind, done] of rounds) {
      const work: Work = { kind, firstId: kind === "inserts" ? 1 + round * rowCount : 1, rowCount };
      const mark = `end-${round}-${kind}`;
      await backlog.write(work, mark);
      const ownFirst = round % 2 === 1;
      const before = ownFirst ? null : await target.load(work, backlog);
      const own = await backlog.replay(() => target.hasMark(mark, backlog), target.serverPid);
      const peer = before ?? (await target.load(work, backlog));
      done.push({ own, peer });
      const rate = (seconds: number): string => Math.round(rowCount / seconds).toLocaleString("en");
      log(`${name} ${kind}: millrace ${rate(own.seconds)} rows/s, ${target.peer} ${rate(peer.seconds)}`);
    }
  }
  const counted = await target.count();
  const expected = rowCount * runs;
  if (counted.own !== expected || counted.peer !== expected) {
    throw new Error(`${counted.own} and ${counted.peer} of ${expected} rows came`);
  }
  return report(name, target, rowCount, wanted, rounds);
}

function report(
  name: string,
  { peer, serverPid }: LoadTarget,
  rowCount: number,
  wanted: number,
  rounds: ReadonlyMap<Kind, readonly Round[]>,
): BenchReport {
  const lines: Line[] = [];
  const ratios: Ratio[] = [];
  const hasServer = serverPid !== undefined;
  let memoryMiB = 0;
  for (const [kind, done] of rounds) {
    const us = (seconds: readonly number[]): number => (median(seconds) * 1e6) / rowCount;
    const usPerRow = (figure: "walsenderSeconds" | "daemonSeconds" | "serverSeconds"): number =>
      us(done.map(({ own }) => own[figure]));
    const peerCpu = done.flatMap(({ peer: { cpuSeconds } }) => cpuSeconds ?? []);
    lines.push({
      work: kind,
      who: "millrace",
      figures: {
        "rows/s": median(done.map(({ own }) => rowCount / own.seconds)),
        "walsender µs/row": usPerRow("walsenderSeconds"),
        "daemon µs/row": usPerRow("daemonSeconds"),
        ...(hasServer ? { "server µs/row": usPerRow("serverSeconds") } : {}),
      },
    });
    lines.push({
      work: kind,
      who: peer,
      figures: {
        "rows/s": median(done.map((round) => rowCount / round.peer.seconds)),
        ...(peerCpu.length === 0
          ? {}
          : {
              "client µs/row": us(peerCpu.map((cpu) => cpu.peer)),
              "server µs/row": us(peerCpu.map((cpu) => cpu.server)),
            }),
      },
    });
    const value = median(done.map((round) => round.peer.seconds / round.own.seconds));
    ratios.push({ what: `${kind}, millrace / ${peer}`, value, target: wanted, atLeast: true });
    memoryMiB = Math.max(memoryMiB, ...done.map(({ own }) => own.memoryMiB));
  }
  lines.push({ work: "all", who: "millrace", figures: { "peak memory MiB": memoryMiB } });
  return { name, lines, ratios };
}
