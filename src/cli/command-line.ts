import type { Command } from "commander";
import type { ExitCode } from "./exit-codes.ts";
import type { Session } from "./session.ts";

/** The program that each command's file adds its command to. */
export interface CommandLine {
  readonly program: Command;
  /** Wraps what a command does, for commander's `action`. `args` are the command's own arguments. */
  readonly action: (work: Work) => (...given: unknown[]) => Promise<void>;
}

export type Work = (
  session: Session,
  options: Readonly<Record<string, unknown>>,
  args: readonly string[],
) => Promise<ExitCode>;
