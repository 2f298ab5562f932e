import { Command, CommanderError, Option } from "commander";
import * as z from "zod";
import { Secrets } from "../config/secrets/secrets.ts";
import { logBareOutput } from "../ops/bare-output.ts";
import { LOG_LEVELS } from "../ops/logger.ts";
import { VERSION } from "../version.ts";
import { addCheck } from "./check/check.ts";
import { addCompletion } from "./completion/completion.ts";
import type { CommandLine, Work } from "./command-line.ts";
import { cliError } from "./errors.ts";
import { EXIT, exitCodeOf, type ExitCode } from "./exit-codes.ts";
import { printFailure } from "./failure.ts";
import { addDlq } from "./commands/dlq.ts";
import { addExplain } from "./commands/explain.ts";
import { addInit } from "./init/init.ts";
import { addOffsets } from "./offsets/offsets.ts";
import { addPause, addResume } from "./commands/pause.ts";
import { addQuery } from "./commands/query.ts";
import { addReconcile } from "./reconcile/reconcile.ts";
import { addRecover } from "./recover/recover.ts";
import { addReport } from "./reconcile/report.ts";
import { addRun } from "./commands/run.ts";
import { addSchema } from "./commands/schema.ts";
import { Session } from "./session.ts";
import { addSnapshot } from "./commands/snapshot.ts";
import { addStatus } from "./status/status.ts";
import { addTail } from "./commands/tail.ts";
import { addTeardown } from "./commands/teardown.ts";
import { addVersion } from "./commands/version.ts";
import { addWait } from "./status/wait.ts";

/** One line per command, in the order of the help. */
const commands = [
  addInit,
  addCheck,
  addRun,
  addStatus,
  addWait,
  addTail,
  addSnapshot,
  addReconcile,
  addRecover,
  addReport,
  addSchema,
  addPause,
  addResume,
  addDlq,
  addOffsets,
  addQuery,
  addTeardown,
  addExplain,
  addCompletion,
  addVersion,
];

const globalOptions = z.object({
  config: z.string(),
  json: z.boolean().default(false),
  logLevel: z.enum(LOG_LEVELS),
});

/** Runs one command and returns its exit code; never throws. */
export async function cli(argv: readonly string[]): Promise<ExitCode> {
  const json = argv.includes("--json");
  const secrets = secretsOf(argv);
  const usageOutput: string[] = [];
  let exitCode: ExitCode = EXIT.done;
  const action: CommandLine["action"] =
    (work) =>
    async (...given) => {
      const command = given.at(-1);
      if (command instanceof Command) exitCode = await runCommand(command, work, secrets);
    };
  const program = createProgram(action, (text) => usageOutput.push(text));
  // Connection strings among the arguments are nobody's business in a list of processes.
  process.title = `millrace ${argv.find((arg) => !arg.startsWith("-")) ?? ""}`.trimEnd();
  try {
    await program.parseAsync(argv, { from: "user" });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return EXIT.done;
    if (error instanceof CommanderError && error.code === "commander.help" && !json) {
      process.stderr.write(usageOutput.join(""));
      return EXIT.wrong;
    }
    const failure = error instanceof CommanderError ? usageError(usageOutput) : error;
    printFailure(failure, { json, showStack: false, secrets });
    return exitCodeOf(failure);
  }
}

/** Passwords of connection strings, also where an argument is misplaced or its option misspelt. */
function secretsOf(argv: readonly string[]): Secrets {
  const secrets = new Secrets();
  for (const argument of argv) secrets.addFromUrl(argument);
  return secrets;
}

async function runCommand(command: Command, work: Work, secrets: Secrets): Promise<ExitCode> {
  const { config, json, logLevel } = globalOptions.parse(command.optsWithGlobals());
  const session = new Session({ configFile: config, json, logLevel, secrets });
  logBareOutput(session.log);
  try {
    return await work(session, command.opts(), command.args);
  } catch (error) {
    session.fail(error);
    return exitCodeOf(error);
  }
}

/** Every command with its options. */
export function createProgram(action: CommandLine["action"], onUsageError: (text: string) => void): Command {
  const program = new Command("millrace")
    .description("Copies a live database into warehouses, search indexes and caches, and keeps them right.")
    .version(VERSION, "-V, --version", "print the version")
    .addOption(new Option("-c, --config <file>", "the config file").env("MILLRACE_CONFIG").default("millrace.yaml"))
    .option("--json", "print one JSON document on stdout")
    .addOption(new Option("--log-level <level>", "what is logged to stderr").choices(LOG_LEVELS).default("info"))
    .exitOverride()
    .configureOutput({ writeErr: onUsageError })
    .showSuggestionAfterError(true);
  for (const add of commands) add({ program, action });
  return program;
}

/** What commander says on stderr, as the message of a numbered error. */
function usageError(output: readonly string[]) {
  return cliError(
    "MR1110",
    output
      .join("")
      .replace(/^error: /, "")
      .trimEnd(),
  );
}
