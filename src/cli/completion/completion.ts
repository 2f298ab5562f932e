import { Argument } from "commander";
import type { CommandLine } from "../command-line.ts";
import { EXIT } from "../exit-codes.ts";
import { SCRIPTS, SHELLS } from "./scripts.ts";

/** The script that `completion` prints calls `complete` at each tab. */
export function addCompletion({ program, action }: CommandLine): void {
  program
    .command("completion")
    .description("print the script that completes millrace's commands in your shell")
    .addArgument(new Argument("<shell>").choices(SHELLS))
    .action(
      action("none", async (session, _options, [given]) => {
        const shell = SHELLS.find((name) => name === given) ?? "bash";
        const script = SCRIPTS[shell];
        session.print({ shell, script }, script);
        return EXIT.done;
      }),
    );
  program
    .command("complete", { hidden: true })
    .description("for the completion script: what may follow the words, or complete the last one")
    .argument("[words...]")
    .action(
      action("none", async (session, _options, words) => {
        const { candidatesOf } = await import("./candidates.ts");
        const { candidates, withFiles } = candidatesOf(program, words, process.env);
        const lines = candidates.map(({ value, text }) => `${value}\t${text}`);
        session.print({ candidates, files: withFiles }, [...lines, ...(withFiles ? [":files"] : [])].join("\n"));
        return EXIT.done;
      }),
    );
}
