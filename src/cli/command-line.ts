import type { Command } from "commander";
import type { ExitCode } from "./exit-codes.ts";
import type { Session } from "./session.ts";

/** The program that each command's file adds its command to. */
export interface CommandLine {
  readonly program: Command;
  /** Wraps what a command does, for commander's `action`; on shares it does the same on each. */
  readonly action: (work: Work) => (...given: unknown[]) => Promise<void>;
  readonly actionFor: (
    onShares: OnShares | ((args: readonly string[]) => OnShares),
    work: Work,
  ) => (...given: unknown[]) => Promise<void>;
}

/**
 * What a command does where the tables are shared among several daemons, and no `--share` chooses one of them. `each`: the
 * same on all of them; `summary` is a line about all documents. `one`: it has to be chosen. `none`: the command is about the
 * configuration alone.
 */
export type OnShares = "each" | "one" | "none" | { readonly summary: (documents: readonly object[]) => string };

/** `args` are the command's own arguments. */
export type Work = (
  session: Session,
  options: Readonly<Record<string, unknown>>,
  args: readonly string[],
) => Promise<ExitCode>;
