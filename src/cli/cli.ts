/**
 * From the command line to the answer.
 *
 *   argv ─► commander ─► Session ─► what the command does ─┬─► DaemonClient: a daemon listens, and answers
 *             │            │                               └─► state.ts: none does. Reads the state, writes what the next
 *             │            │                                   daemon reads, or works alone, under the lease
 *             │            └─ the config as far as the command needs it: where the daemon is (`place`), source and some
 *             │               sinks (`part`, `sinks`), or all (`config`)
 *             └─ only the named command's file is loaded
 *   document and text ─► Session.print: --json or text, without secrets ─► exit code
 *
 * Where tables are shared, the work is done once for each share, and `print` collects what each said. A command that would
 * take something away prints its plan and is refused without --yes.
 *
 * A command that read the whole config first would fail beside a daemon for want of variables that only the daemon has.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { Secrets } from "../config/secrets/secrets.ts";
import { LOG_LEVELS, type Logger, type LogLevel } from "../core/contracts/telemetry.ts";
import { VERSION } from "../version.ts";
import type { CommandLine, OnShares, OnSharesOf, Work } from "./command-line.ts";
import { cliError } from "./errors.ts";
import { EXIT, type ExitCode, exitCodeOf } from "./exit-codes.ts";
import { printFailure } from "./failure.ts";
import type { Session } from "./session.ts";
import { format } from "node:util";

type Add = (line: CommandLine) => void;

/** One line per command, in the order of the help. Only the requested command is loaded. */
const commands = new Map<string, () => Promise<Add>>([
  ["up", async () => (await import("./up/up.ts")).addUp],
  ["init", async () => (await import("./init/init.ts")).addInit],
  ["import", async () => (await import("./import/import.ts")).addImport],
  ["check", async () => (await import("./check/check.ts")).addCheck],
  ["grants", async () => (await import("./grants/grants.ts")).addGrants],
  ["run", async () => (await import("./commands/run.ts")).addRun],
  ["status", async () => (await import("./status/status.ts")).addStatus],
  ["top", async () => (await import("./top/top.ts")).addTop],
  ["wait", async () => (await import("./status/wait.ts")).addWait],
  ["tail", async () => (await import("./commands/tail.ts")).addTail],
  ["snapshot", async () => (await import("./commands/snapshot.ts")).addSnapshot],
  ["reconcile", async () => (await import("./reconcile/reconcile.ts")).addReconcile],
  ["recover", async () => (await import("./recover/recover.ts")).addRecover],
  ["drill", async () => (await import("./drill/drill.ts")).addDrill],
  ["verify", async () => (await import("./reconcile/verify.ts")).addVerify],
  ["proofs", async () => (await import("./reconcile/proofs.ts")).addProofs],
  ["report", async () => (await import("./reconcile/report.ts")).addReport],
  ["schema", async () => (await import("./schema/schema.ts")).addSchema],
  ["rules", async () => (await import("./commands/rules.ts")).addRules],
  ["documents", async () => (await import("./commands/documents.ts")).addDocuments],
  ["pause", async () => (await import("./commands/pause.ts")).addPause],
  ["resume", async () => (await import("./commands/pause.ts")).addResume],
  ["dlq", async () => (await import("./commands/dlq.ts")).addDlq],
  ["offsets", async () => (await import("./offsets/offsets.ts")).addOffsets],
  ["audit", async () => (await import("./commands/audit.ts")).addAudit],
  ["query", async () => (await import("./commands/query.ts")).addQuery],
  ["teardown", async () => (await import("./commands/teardown.ts")).addTeardown],
  ["explain", async () => (await import("./commands/explain.ts")).addExplain],
  ["completion", async () => (await import("./completion/completion.ts")).addCompletion],
  ["version", async () => (await import("./commands/version.ts")).addVersion],
]);

/** Runs one command and returns its exit code; never throws. */
export async function cli(argv: readonly string[]): Promise<ExitCode> {
  const json = argv.includes("--json");
  const secrets = secretsOf(argv);
  const usageOutput: string[] = [];
  let exitCode: ExitCode = EXIT.done;
  const program = createProgram((text) => usageOutput.push(text));
  const action: CommandLine["action"] =
    (onShares, work) =>
    async (...given) => {
      const command = given.at(-1);
      if (command instanceof Command) exitCode = await runCommand(command, { work, onShares }, secrets);
    };
  // A list of processes must not show connection strings.
  process.title = `millrace ${argv.find((arg) => !arg.startsWith("-")) ?? ""}`.trimEnd();
  try {
    for (const add of await wanted(program, argv)) add({ program, action });
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

/** The command that the first operand names. All commands for help, for `complete`, and for an unknown name. */
async function wanted(program: Command, argv: readonly string[]): Promise<Add[]> {
  const [name = ""] = program.parseOptions([...argv]).operands;
  const load = commands.get(name);
  return load === undefined ? await Promise.all([...commands.values()].map((all) => all())) : [await load()];
}

/** Passwords in connection strings, also in a misplaced argument or after a misspelt option. */
function secretsOf(argv: readonly string[]): Secrets {
  const secrets = new Secrets();
  for (const argument of argv) secrets.addFromUrl(argument);
  return secrets;
}

interface Action {
  readonly work: Work;
  readonly onShares: OnShares | OnSharesOf;
}

async function runCommand(command: Command, { work, onShares }: Action, secrets: Secrets): Promise<ExitCode> {
  const { config, json = false, logLevel, share = null } = command.optsWithGlobals<GlobalOptions>();
  // Loads the logger too, which help does not need.
  const [{ Session }, { Options }] = await Promise.all([import("./session.ts"), import("./options.ts")]);
  const session = new Session({ configFile: config, json, logLevel, secrets, share });
  logBareOutput(session.log);
  try {
    const { args } = command;
    const options = new Options(command.opts());
    const chosen = typeof onShares === "function" ? onShares(args, options) : onShares;
    return await inShares(session, async (one) => await work(one, options, args), chosen);
  } catch (error) {
    session.fail(error);
    return exitCodeOf(error);
  }
}

async function inShares(
  session: Session,
  run: (one: Session) => Promise<ExitCode>,
  onShares: OnShares,
): Promise<ExitCode> {
  if (onShares === "none" || session.options.share !== null) return await run(session);
  const { owner: name, shareCount: count } = await session.place();
  if (count === null) return await run(session);
  if (onShares === "one") throw cliError("MR1110", `choose a share: --share with 1 to ${count}`);
  const { inEachShare } = await import("./shares/each-share.ts");
  return await inEachShare(session, { name, count }, { work: run, ...(onShares === "each" ? {} : onShares) });
}

interface GlobalOptions {
  readonly config: string;
  readonly json?: boolean;
  readonly logLevel: LogLevel;
  readonly share?: number;
}

function createProgram(onUsageError: (text: string) => void): Command {
  return new Command("millrace")
    .description("Copies a live database into warehouses, search indexes and caches, and keeps them right.")
    .version(VERSION, "-V, --version", "print the version")
    .addOption(new Option("-c, --config <file>", "the config file").env("MILLRACE_CONFIG").default("millrace.yaml"))
    .option("--json", "print one JSON document on stdout")
    .addOption(new Option("--log-level <level>", "what is logged to stderr").choices(LOG_LEVELS).default("info"))
    .option("--share <number>", "with source.shares: this share alone", shareNumber)
    .exitOverride()
    .configureOutput({ writeErr: onUsageError })
    .showSuggestionAfterError(true);
}

function shareNumber(text: string): number {
  if (!/^[1-9]\d?$/.test(text)) throw new InvalidArgumentError("expected the number of a share, from 1 on");
  return Number(text);
}

/** The program with every command and its options, for reading only: no command does anything. */
export async function everyCommand(): Promise<Command> {
  const idle = () => async () => undefined;
  const program = createProgram(() => undefined);
  for (const load of commands.values()) (await load())({ program, action: idle });
  return program;
}

/** What commander writes to stderr, as the message of a numbered error. */
function usageError(output: readonly string[]) {
  return cliError(
    "MR1110",
    output
      .join("")
      .replace(/^error: /, "")
      .trimEnd(),
  );
}

const METHODS = ["debug", "log", "info", "warn", "error", "trace"] as const;

/**
 * From here on, everything that libraries and Node print goes into the log: readers of the daemon's output expect log
 * entries only, and only the log masks secrets.
 */
function logBareOutput(logger: Logger): void {
  for (const method of METHODS) {
    console[method] = (...said: readonly unknown[]) => logger.warn({ by: "a library" }, format(...said).trimEnd());
  }
  // Node's own listener, which prints, is the first.
  process.removeAllListeners("warning");
  process.on("warning", ({ name, message }) => logger.warn({ by: "Node", name }, message));
}
