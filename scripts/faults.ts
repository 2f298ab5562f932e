/**
 * `npm run faults` runs the drills of test/fault/matrix and makes docs/faults.md of what they found: each fault, source and sink,
 * with the date and the commit. A source whose drill did not end equal is not on the page, and the command fails. With a word
 * (`npm run faults -- standby`) it runs the drills whose file has it in its name, and the page keeps the others.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { createVitest } from "vitest/node";
import * as z from "zod";

const ROOT = join(import.meta.dirname, "..");
const DRILLS = "test/fault/matrix";
const PAGE = "docs/faults.md";

const DRILL = z.object({
  source: z.object({ name: z.string(), port: z.string() }),
  sinks: z.array(z.object({ name: z.string(), port: z.string().nullable() })),
  breaks: z.array(z.object({ what: z.string(), on: z.string(), recoveryMs: z.number() })),
});
type Drill = z.output<typeof DRILL>;

const OF_DAEMON = [
  ["kill", "The daemon was killed"],
  ["stop", "Stopped in order"],
] as const;
const OF_CONNECTIONS = [
  ["cut", "connections are reset"],
  ["stall", "they stall for 10 s"],
  ["refuse", "they are refused for 5 s"],
  ["pause", "the sink is paused for 5 s"],
] as const;

if (import.meta.main) process.exitCode = await run(process.argv[2]);

async function run(word?: string): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "millrace-faults-"));
  process.env["MILLRACE_TEST_FAULTS"] = folder;
  try {
    const vitest = await createVitest("test", { watch: false, run: true });
    await vitest.start([`${DRILLS}/${word ?? ""}`]);
    const isGood = vitest.state.getFiles().every((file) => file.result?.state === "pass");
    await vitest.close();
    const drills = readdirSync(folder).map((file) => DRILL.parse(JSON.parse(readFileSync(join(folder, file), "utf8"))));
    const commit = execFileSync("git", ["rev-parse", "--short=12", "HEAD"], { cwd: ROOT, encoding: "utf8" }).trim();
    const kept = word === undefined ? "" : readFileSync(join(ROOT, PAGE), "utf8");
    if (word !== undefined && !isGood) return 1;
    writeFileSync(join(ROOT, PAGE), faultPage(drills, { commit, at: new Date() }, kept));
    process.stdout.write(`wrote ${PAGE}\n`);
    return isGood ? 0 : 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Run {
  readonly commit: string;
  readonly at: Date;
}

/** `kept`: a page whose other parts stay. */
export function faultPage(drills: readonly Drill[], run: Run, kept = ""): string {
  const parts = new Map<string, string>();
  for (const part of kept.split(/^## From /m).slice(1)) parts.set(part.split("\n")[0] ?? "", part.trimEnd());
  for (const drill of drills) parts.set(drill.source.name, partOf(drill, run));
  const sorted = [...parts].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([, part]) => `## From ${part}\n`);
  return `# What was broken, and whether all was equal afterwards

Made by \`npm run faults\`: [drills](drill.md) from each source to all of these sinks at once, while rows are written. After each fault the drill waited until every sink had what the source had; at its end every row of every sink was equal to the source's, for the drill and for [a comparison by other means](../test/fault/matrix). Figures are how often the fault was met and the longest recovery, on ${availableParallelism()} cores that also ran all servers. "—": the sink is no server.

${sorted.join("\n")}`;
}

function partOf({ source, sinks, breaks }: Drill, { commit, at }: Run): string {
  const columns = [{ name: "the source", port: source.port }, ...sinks];
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  const table = [
    line(["", ...columns.map(({ name }) => name)]),
    line(["---", ...columns.map(() => "---")]),
    ...OF_CONNECTIONS.map(([what, words]) =>
      line([
        words,
        ...columns.map((column) => told(breaks.filter((one) => one.what === what && isOf(column, one.on)))),
      ]),
    ),
  ];
  const ofDaemon = OF_DAEMON.map(([what, words]) => `${words}: ${told(breaks.filter((one) => one.what === what))}.`);
  const made = `Made on ${at.toISOString().slice(0, 10)} from commit ${commit}.`;
  return `${source.name}\n\n${made} ${ofDaemon.join(" ")}\n\n${table.join("\n")}`;
}

function isOf({ name, port }: Drill["sinks"][number], on: string): boolean {
  return on === name || (port !== null && on.endsWith(`:${port}`));
}

function told(met: Drill["breaks"]): string {
  const longest = Math.max(...met.map(({ recoveryMs }) => recoveryMs));
  return met.length === 0 ? "—" : `${met.length}×, ${(longest / 1_000).toFixed(1)} s`;
}
