import { Argument } from "commander";
import type { CommandLine } from "../command-line.ts";
import { EXIT } from "../exit-codes.ts";

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

/**
 * One function per shell. It passes the words up to the cursor to `millrace complete`, never through `eval`: a tab must
 * not run anything in a half-typed line. Each answer line is a value and its description; `:files` asks for the shell's
 * own file completion.
 */
const SHELLS = ["bash", "zsh", "fish"] as const;
type Shell = (typeof SHELLS)[number];

/** `compopt` fails before Bash 4; macOS has Bash 3. */
const BASH = `# bash completion of millrace
_millrace() {
  local IFS=$'\\n' line
  COMPREPLY=()
  while read -r line; do
    case $line in
      :files) compopt -o default 2>/dev/null || COMPREPLY+=($(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}")) ;;
      ?*) COMPREPLY+=("\${line%%$'\\t'*}") ;;
    esac
  done < <(millrace complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _millrace millrace
`;

/** In a file of the fpath, zsh runs the script as the function itself. */
const ZSH = `#compdef millrace
_millrace() {
  local line value files=
  local -a given found
  given=("\${(@Q)words[2,CURRENT-1]}" "$PREFIX")
  while IFS= read -r line; do
    if [[ $line == :files ]]; then
      files=1
    elif [[ -n $line ]]; then
      value=\${line%%$'\\t'*}
      found+=("\${value//:/\\\\:}:\${line#*$'\\t'}")
    fi
  done < <(millrace complete -- "$given[@]" 2>/dev/null)
  if (( $#found )); then
    _describe -V millrace found
  elif [[ -n $files ]]; then
    compset -P '--*='
    _files
  fi
}
if [[ $funcstack[1] == _millrace ]]; then
  _millrace "$@"
else
  compdef _millrace millrace
fi
`;

const FISH = `# fish completion of millrace
function __millrace_complete
  set -l words (commandline -opc)
  set -e words[1]
  set -l typed (commandline -ct)
  for line in (millrace complete -- $words "$typed" 2>/dev/null)
    if test "$line" = :files
      __fish_complete_path "$typed"
    else
      echo $line
    end
  end
end
complete -c millrace -f -a '(__millrace_complete)'
`;

const SCRIPTS: Readonly<Record<Shell, string>> = { bash: BASH, zsh: ZSH, fish: FISH };
