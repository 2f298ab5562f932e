/** Passwords that may change while the daemon runs: from a command (IAM authentication, vaults) or a file. */
import { execFile } from "node:child_process";
import { resolve } from "node:path";
import * as z from "zod";
import { type ErrorCode, type MillraceError, raising } from "../core/errors.ts";
import type { FreshPassword, IdleKey } from "../core/contracts/connector.ts";
import { readSmallFile } from "../core/files.ts";
import { pages } from "./errors.ts";

const COMMAND_MS_MAX = 10_000;
const PASSWORD_BYTES_MAX = 64 * 1024;

/** The keys, for a connector's definition. */
export const passwordKeys = {
  passwordCommand: z
    .array(z.string().min(1))
    .min(1, { error: "expected a program and its arguments, such as [./token.sh, shop]" })
    .optional()
    .describe(
      "A program and its arguments, run before each new connection, in the folder of this file and without a shell. It prints the password.",
    ),
  passwordFile: z.string().min(1).optional().describe("A file with the password, read before each new connection."),
};

interface PasswordOptions {
  readonly passwordCommand?: readonly string[] | undefined;
  readonly passwordFile?: string | undefined;
}

/** Of several passwords only one is used. `given`: the one that the configuration holds itself. */
export function idlePassword(
  { passwordCommand, passwordFile }: PasswordOptions,
  given: string | undefined,
): IdleKey | undefined {
  if (passwordCommand !== undefined && passwordFile !== undefined)
    return ["passwordFile", "has no use with `passwordCommand`; leave one of them out"];
  const key = passwordCommand === undefined ? "passwordFile" : "passwordCommand";
  if ((passwordCommand ?? passwordFile) === undefined || (given ?? "") === "") return undefined;
  return [key, "stands beside a password that would then do nothing; leave one of them out"];
}

/** Undefined: the password is that of the url. */
export function freshPassword(options: PasswordOptions, folder: string): FreshPassword | undefined {
  const { passwordCommand: command, passwordFile: file } = options;
  if (command !== undefined) return (signal) => printed(command, folder, signal);
  if (file !== undefined) return () => Promise.resolve().then(() => read(resolve(folder, file)));
  return undefined;
}

async function printed(command: readonly string[], folder: string, signal: AbortSignal): Promise<string> {
  const [program = "", ...args] = command;
  const { promise, resolve: settle, reject } = Promise.withResolvers<string>();
  const limits = { timeout: COMMAND_MS_MAX, maxBuffer: PASSWORD_BYTES_MAX, killSignal: "SIGKILL" } as const;
  const child = execFile(program, args, { cwd: folder, encoding: "utf8", signal, ...limits }, (error, output) => {
    if (error === null) settle(output);
    else if (signal.aborted) reject(error);
    else reject(unusable("MR2901", `the command ${program} ${whyOf(error)}`));
  });
  // It gets nothing to read, and need not wait for it.
  child.stdin?.end();
  return alone(await promise, () => unusable("MR2901", `the command ${program} printed nothing`));
}

/** Without the error's message, which holds the arguments and what was printed. */
function whyOf(error: Error & { code?: unknown; killed?: boolean; signal?: unknown }): string {
  if (error.code === "ERR_CHILD_PROCESS_STDIO_MAXBUFFER") return "printed more than 64 KB";
  if (error.killed === true) return `did not end within ${COMMAND_MS_MAX / 1000} s`;
  if (typeof error.code === "number") return `ended with code ${error.code}`;
  return typeof error.code === "string" ? `can't be started (${error.code})` : `was ended by ${String(error.signal)}`;
}

function read(path: string): string {
  let text: string;
  try {
    text = readSmallFile(path, PASSWORD_BYTES_MAX);
  } catch (error) {
    const reason = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    throw unusable("MR2901", `the password file ${path} can't be read (${reason})`);
  }
  return alone(text, () => unusable("MR2901", `the password file ${path} is empty`));
}

/** Without its last line break. */
function alone(text: string, empty: () => MillraceError): string {
  const password = text.replace(/\r?\n$/, "");
  if (password === "") throw empty();
  return password;
}

function unusable(code: ErrorCode, message: string): MillraceError {
  return raising(pages)(code, message, { kind: "blocked", reason: "login" });
}
