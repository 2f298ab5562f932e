import { describe, expect, test } from "vitest";
import { Secrets } from "../../src/config/secrets/secrets.ts";
import { MillraceError } from "../../src/core/errors.ts";
import { type LogLevel, Repeated } from "../../src/core/contracts/telemetry.ts";
import { createLogger } from "../../src/ops/logger.ts";

function logging(level: LogLevel, isTTY: boolean) {
  const lines: string[] = [];
  const secrets = new Secrets();
  secrets.add("canary-secret");
  secrets.add("mill");
  const output = { write: (text: string) => lines.push(text), isTTY };
  return { lines, log: createLogger({ level, redact: (line) => secrets.redactJson(line), output }) };
}

const failure = new MillraceError({
  code: "MR2004",
  kind: "retryable",
  message: "the target is gone",
  hint: "start it",
  cause: Object.assign(new Error("row (42, 'cell of a customer')"), { code: "08006" }),
});

describe("for machines", () => {
  test("one JSON object per line, with the fields of its parents", () => {
    const { lines, log } = logging("info", false);
    log.child({ sink: "warehouse" }).child({ table: "public.t" }).warn({ rows: 3 }, "slow");
    log.debug({}, "not wanted");
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0] ?? "")).toEqual({
      level: "warn",
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      sink: "warehouse",
      table: "public.t",
      rows: 3,
      msg: "slow",
    });
  });

  test("an error is told by number, sentence and hint; what a driver quoted is not", () => {
    const { lines, log } = logging("info", false);
    log.error({ error: failure }, "failed");
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({
      error: {
        code: "MR2004",
        kind: "retryable",
        message: "the target is gone",
        hint: "start it",
        causes: ["Error 08006"],
      },
    });
    expect(lines[0]).not.toContain("customer");
    // A cause that says the same again is left out.
    log.error({ error: failure.with({ message: "it is gone, at db:5432", cause: failure }) }, "failed");
    expect(JSON.parse(lines[1] ?? "")).toMatchObject({ error: { causes: ["Error 08006"] } });
  });

  test("what fails again and again in the same way is told once, until it has passed", () => {
    const { lines, log } = logging("info", false);
    const repeated = new Repeated(log);
    const tell = (message: string): void => repeated.failed(new Error(message), "a try failed");
    for (const message of ["away", "away", "refused", "away"]) tell(message);
    repeated.passed();
    tell("away");
    const told = lines.map((line) => /"message":"(\w+)"/.exec(line)?.[1]);
    expect(told).toEqual(["away", "refused", "away", "away"]);
  });

  test("a defect keeps its stack", () => {
    const { lines, log } = logging("info", false);
    log.error({ error: new TypeError("x is undefined") }, "failed");
    expect(lines[0]).toContain("logger.test.ts");
  });
});

test.each([true, false])("a secret is masked in messages, fields and stacks (terminal: %s)", (isTTY) => {
  const { lines, log } = logging("debug", isTTY);
  log.child({ url: "redis://u:canary-secret@h" }).info({ error: new Error("canary-secret") }, "at canary-secret");
  log.error({ deep: { list: ["canary-secret"] } }, "postgres://u:pw@h");
  expect(lines.join("")).not.toMatch(/canary-secret|:pw@/);
});

test.each([true, false])("a short password does not hide the words that hold it (terminal: %s)", (isTTY) => {
  const { lines, log } = logging("info", isTTY);
  log.info({ name: "mill", url: "postgres://millrace:mill@h/d", options: { password: "mill" } }, "millrace is running");
  const said = lines.join("");
  expect(said).toContain("millrace is running");
  expect(said).toContain("postgres://millrace:***@h/d");
  expect(said.match(/\bmill\b/g)).toHaveLength(1);
});

test("on a terminal an entry is one line, and an error stands below it", () => {
  const { lines, log } = logging("info", true);
  log.child({ sink: "warehouse" }).info({ rows: 3, why: "a b" }, "copied");
  log.error({ error: failure }, "failed");
  // oxlint-disable-next-line no-control-regex -- the colours are what is taken away
  const plain = lines.map((line) => line.replaceAll(/\x1b\[\d+m/g, ""));
  expect(plain[0]).toMatch(/^\d\d:\d\d:\d\d\.\d{3} INFO  warehouse: copied {2}rows=3 why="a b"\n$/);
  expect(plain[1]).toMatch(/ERROR failed\n {2}MR2004: the target is gone\n {2}start it\n$/);
});
