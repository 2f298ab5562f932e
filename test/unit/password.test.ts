/** Passwords from commands and files: what is taken, and that no error shows anything of it. */
import { writeFileSync } from "node:fs";
import { expect, test } from "vitest";
import { freshPassword } from "../../src/passwords/password.ts";
import { temporaryFolder } from "../support/run/temporary-folder.ts";

const NODE = process.execPath;
const CANARY = "canary-3f1c-secret";
const never = new AbortController().signal;

test("a command's output without its last line break, run in the folder and without a shell", async () => {
  using folder = temporaryFolder();
  writeFileSync(folder.file("token"), "p@ss $HOME 'x'\n\n");
  const ask = freshPassword({ passwordCommand: ["cat", "./token"], passwordFile: "./none" }, folder.path);
  expect(await ask?.(never)).toBe("p@ss $HOME 'x'\n");
  writeFileSync(folder.file("token"), "another");
  expect(await ask?.(never)).toBe("another");
});

test("a file is read each time", async () => {
  using folder = temporaryFolder();
  writeFileSync(folder.file("p"), "first\r\n");
  const ask = freshPassword({ passwordFile: "p" }, folder.path);
  expect(await ask?.(never)).toBe("first");
  writeFileSync(folder.file("p"), "second");
  expect(await ask?.(never)).toBe("second");
  writeFileSync(folder.file("p"), "\n");
  await expect(ask?.(never)).rejects.toMatchObject({ code: "MR2901", kind: "blocked" });
});

test("without either the password is the url's", () => {
  expect(freshPassword({}, ".")).toBeUndefined();
});

test.each([
  ["fails", `console.log("${CANARY}"); console.error("${CANARY}"); process.exit(3)`, /ended with code 3$/],
  ["prints nothing", "", /printed nothing$/],
  ["prints too much", `console.log("${CANARY}".repeat(10000))`, /printed more than 64 KB$/],
])("a command that %s", async (_what, program, message) => {
  const failure: unknown = await freshPassword(
    { passwordCommand: [NODE, "-e", program] },
    ".",
  )?.(never).catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: "MR2901", kind: "blocked", message: expect.stringMatching(message) });
  expect(JSON.stringify(failure, Object.getOwnPropertyNames(failure)) + String(failure)).not.toContain(CANARY);
});

test("a command that does not exist, and one that is stopped", async () => {
  const missing = freshPassword({ passwordCommand: ["./no-such-program"] }, ".");
  await expect(missing?.(never)).rejects.toMatchObject({ code: "MR2901", message: expect.stringContaining("ENOENT") });
  const stop = new AbortController();
  const waiting = freshPassword({ passwordCommand: [NODE, "-e", "setTimeout(() => {}, 60_000)"] }, ".")?.(stop.signal);
  stop.abort();
  await expect(waiting).rejects.toMatchObject({ name: "AbortError" });
});
