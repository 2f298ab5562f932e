import { createContext } from "preact";
import { useContext, useEffect, useRef, useState } from "preact/hooks";

export interface Order {
  /** Default: POST. */
  readonly method?: "POST" | "DELETE";
  readonly path: string;
  readonly body?: object;
  /** Said when it was done. */
  readonly done: string;
}

interface Acting {
  /** False for viewers, and where no token is configured. */
  readonly mayAct: boolean;
  readonly why: string;
  readonly send: (order: Order) => Promise<void>;
}

export const ActingContext = createContext<Acting>({ mayAct: false, why: "", send: async () => undefined });

interface ActProps extends Order {
  readonly label: string;
  /** What it is done to, for those who hear the button alone. */
  readonly of: string;
  /** Asked before it is done. */
  readonly confirm?: string;
  readonly look?: "plain" | "danger" | "main";
}

/** A button that acts. */
export function Act({ label, of, confirm, look = "plain", ...order }: ActProps) {
  const { mayAct, why, send } = useContext(ActingContext);
  const [isBusy, setBusy] = useState(false);
  const [isAsking, setAsking] = useState(false);
  const run = async () => {
    setAsking(false);
    setBusy(true);
    await send(order);
    setBusy(false);
  };
  return (
    <>
      <button
        type="button"
        class={look}
        disabled={!mayAct || isBusy}
        title={mayAct ? undefined : why}
        aria-label={`${label} ${of}`}
        onClick={() => (confirm === undefined ? void run() : setAsking(true))}
      >
        {isBusy ? "…" : label}
      </button>
      {isAsking && confirm !== undefined && (
        <Question text={confirm} label={label} look={look} onYes={() => void run()} onNo={() => setAsking(false)} />
      )}
    </>
  );
}

interface QuestionProps {
  readonly text: string;
  readonly label: string;
  readonly look: string;
  readonly onYes: () => void;
  readonly onNo: () => void;
}

function Question({ text, label, look, onYes, onNo }: QuestionProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} onClose={onNo} aria-label={`${label}?`}>
      <p>{text}</p>
      <p class="buttons">
        <button type="button" class={look} onClick={onYes}>
          {label}
        </button>
        <button type="button" onClick={() => dialog.current?.close()}>
          Cancel
        </button>
      </p>
    </dialog>
  );
}
