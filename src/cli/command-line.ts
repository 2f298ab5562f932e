import type { Command } from "commander";
import type { ExitCode } from "./exit-codes.ts";
import type { Options } from "./options.ts";
import type { Session } from "./session.ts";

/** The program that each command's file adds its command to. */
export interface CommandLine {
  readonly program: Command;
  /** Wraps what a command does, for commander's `action`. */
  readonly action: (onShares: OnShares | OnSharesOf, work: Work) => (...given: unknown[]) => Promise<void>;
}

/**
 * What a command does where the tables are shared among several daemons, and no `--share` chooses one of them. `each`: the
 * same on all of them; `summary` is a line about all documents. `one`: it has to be chosen. `none`: the command is about the
 * configuration alone.
 */
export type OnShares = "each" | "one" | "none" | { readonly summary: (documents: readonly object[]) => string };

export type OnSharesOf = (args: readonly string[], options: Options) => OnShares;

/** `args` are the command's own arguments. */
export type Work = (session: Session, options: Options, args: readonly string[]) => Promise<ExitCode>;
