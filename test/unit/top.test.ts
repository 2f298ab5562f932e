/** `millrace top`: one screen of status, whatever the terminal's size and the names in it. */
import { spawn, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { frameOf, LagHistory } from "../../src/cli/top/frame.ts";
import { PROGRAM } from "../support/run/program.ts";
import { sinkStatus, statusDocument } from "../support/daemon/status-document.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const NOW_MS = Date.parse("2026-11-20T03:12:00Z");

const refused = {
  code: "MR2001",
  message: `the server "\u001b[31m${"x".repeat(300)}" can't be reached`,
  hint: "Check url, TLS and firewall, and everything else between here and there. ".repeat(5),
  at: "2026-11-20T03:11:57Z",
};

test("all in order: who follows, and the course of the lag", () => {
  const history = new LagHistory();
  for (const lagSeconds of [0, 1, 8, 70, null, 0]) history.add([sinkStatus("cache", { lagSeconds })]);
  const lines = frameOf(statusDocument({ sinks: [sinkStatus("cache")] }), history, NOW_MS, { columns: 80, rows: 24 });
  expect(lines.slice(0, 2)).toEqual(["shop: streaming (pid 42, up for 2 h 12 min)", "all is well: the sink follows"]);
  expect(lines.find((line) => line.startsWith("cache"))).toMatch(/^cache \(redis\) +streaming +0\.0 s +0 B +0 ▁▂▅█ ▁$/);
});

test.each([40, 80, 200])("with %d columns no line is longer, and no name commands the terminal", (columns) => {
  const sinks = Array.from({ length: 12 }, (_, i) =>
    sinkStatus(`sink-with-quite-a-long-name-${i}\u001b[2J`, { state: "retrying", error: refused, deadLetters: 3 }),
  );
  const lines = frameOf(statusDocument({ sinks }), new LagHistory(), NOW_MS, { columns, rows: 30 });
  expect(lines.length).toBeLessThanOrEqual(30);
  expect(Math.max(...lines.map((line) => Array.from(line).length))).toBeLessThanOrEqual(columns);
  expect(lines.join("")).not.toContain("\u001b");
  const text = lines.join("\n");
  expect(text).toMatch(/needs? you/);
  expect(text).toContain("… more: millrace status");
  expect(text).toMatch(/sink-[^\n]*retrying/);
});

test("in a terminal it draws on the other screen until q, and puts everything back", async ({ skip }) => {
  skip(spawnSync("script", ["--version"]).status !== 0, "there is no script(1), which gives a program a terminal");
  using folder = temporaryFolder();
  const source = "{ kind: postgres, url: 'postgres://127.0.0.1:1/d' }";
  writeFileSync(folder.file("millrace.yaml"), `name: shop\nsource: ${source}\nsinks: {}\n`);
  const command = `stty cols 80 rows 24; exec '${process.execPath}' '${PROGRAM}' top`;
  const child = spawn("script", ["-qefc", command, "/dev/null"], {
    cwd: folder.path,
    stdio: ["pipe", "pipe", "inherit"],
  });
  let said = "";
  for await (const chunk of child.stdout) {
    said += String(chunk);
    // There is no daemon and no state yet: it goes on asking.
    if (said.includes("q quits") && child.stdin.writable) child.stdin.end("q");
  }
  expect(said).toContain("MR1203");
  expect(said.indexOf("\u001b[?1049h")).toBeLessThan(said.indexOf("MR1203"));
  expect(said.trimEnd().endsWith("\u001b[?25h\u001b[?1049l")).toBe(true);
});
