import { openState } from "../../state/open.ts";
import { chosenSinks } from "../arguments.ts";
import { auditedHere } from "../audit.ts";
import type { CommandLine } from "../command-line.ts";
import { DaemonClient } from "../daemon-client.ts";
import { EXIT } from "../exit-codes.ts";
import type { Session } from "../session.ts";

export function addPause(line: CommandLine): void {
  add(line, "pause", "stop writing to one sink or to all, also after restarts; the source keeps the log");
}

export function addResume(line: CommandLine): void {
  add(line, "resume", "let a paused or failed sink, or all of them, go on");
}

function add({ program, action }: CommandLine, verb: "pause" | "resume", description: string): void {
  program
    .command(verb)
    .description(description)
    .option("--sink <name>", "this sink only")
    .action(
      action(async (session, options) => {
        const sink = typeof options["sink"] === "string" ? options["sink"] : null;
        const sinks = await apply(session, verb, sink);
        session.print({ [`${verb}d`]: sinks }, `${verb}d: ${sinks.join(", ")}`);
        return EXIT.done;
      }),
    );
}

/** Through the running daemon; without one, in the state store for the next start. */
async function apply(session: Session, verb: "pause" | "resume", sink: string | null): Promise<readonly string[]> {
  const config = await session.config();
  const chosen = chosenSinks(config, sink);
  const body = sink === null ? {} : { sink };
  await new DaemonClient(config.state).tell(`/api/v1/${verb}`, body, async () => {
    const state = await openState(config.state, { name: config.name });
    try {
      await auditedHere(state, verb, { sinks: chosen }, async () => {
        for (const name of chosen) {
          await state.sinks.setPaused(name, verb === "pause");
          if (verb === "resume") await state.sinks.setError(name, null);
        }
      });
    } finally {
      await state.close();
    }
  });
  return chosen;
}
