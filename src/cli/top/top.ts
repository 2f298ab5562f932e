import { setTimeout as sleep } from "node:timers/promises";
import type { StatusDocument } from "../../core/contracts/status.ts";
import type { CommandLine } from "../command-line.ts";
import { EXIT } from "../exit-codes.ts";
import { failureOf } from "../failure.ts";
import { statusOf } from "../status/status.ts";
import type { Session } from "../session.ts";
import { frameOf, LagHistory, type Room } from "./frame.ts";
import { type Screen, terminal } from "./terminal.ts";

/** Where no terminal says its size. */
const PLAIN: Room = { columns: 80, rows: 200 };

export function addTop({ program, action }: CommandLine): void {
  program
    .command("top")
    .description("status, live in the terminal; q quits")
    .option("--every <duration>", "how often it asks", "1s")
    .option("--once", "print it once, for scripts; so it is if the output is no terminal")
    .action(
      action("one", async (session, options) => {
        const everyMs = options.durationMs("--every");
        if (session.json || options.has("--once") || !process.stdout.isTTY) {
          const status = await redacted(session);
          const history = new LagHistory();
          history.add(status.sinks);
          session.print(status, frameOf(status, history, Date.now(), PLAIN).join("\n"));
          return EXIT.done;
        }
        using screen = terminal();
        await follow(() => redacted(session), everyMs, screen);
        return EXIT.done;
      }),
    );
}

/** Before lines are broken: a secret on two lines would not be found. */
async function redacted(session: Session): Promise<StatusDocument> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the same document, with other texts
  return JSON.parse(session.secrets.redactJson(JSON.stringify(await statusOf(session)))) as StatusDocument;
}

/** Draws until somebody quits. */
async function follow(ask: () => Promise<StatusDocument>, everyMs: number, screen: Screen): Promise<void> {
  const history = new LagHistory();
  const { quit } = screen;
  let shown: StatusDocument | null = null;
  let trouble: string | null = null;
  const draw = (): void => {
    const room = { ...screen.room, rows: screen.room.rows - 1 };
    const lines = shown === null ? [] : frameOf(shown, history, Date.now(), room);
    const asked = `asks every ${everyMs / 1000} s; q quits`;
    screen.show(trouble === null ? lines : [...lines.slice(0, room.rows - 2), "", trouble], asked);
  };
  screen.onResize(draw);
  while (!quit.aborted) {
    try {
      shown = await ask();
      history.add(shown.sinks);
      trouble = null;
    } catch (error) {
      const { code, message } = failureOf(error);
      trouble = `${code} ${message}`;
    }
    if (quit.aborted) return;
    draw();
    await sleep(everyMs, undefined, { signal: quit }).catch(() => undefined);
  }
}
