import { Act } from "../act.tsx";
import { sentence } from "../format.ts";

interface ControlsProps {
  /** What they steer: `sink warehouse`. */
  readonly of: string;
  readonly isPaused: boolean;
  readonly pause: { readonly confirm: string; readonly body: object };
  readonly resync: { readonly confirm: string; readonly body: object; readonly done: string };
}

/** Pause or resume, and resync. */
export function Controls({ of, isPaused, pause: { confirm, body }, resync: { done, ...resync } }: ControlsProps) {
  const named = sentence(of);
  return (
    <>
      {isPaused ? (
        <Act label="Resume" of={of} look="main" path="/api/v1/resume" body={body} done={`${named} goes on.`} />
      ) : (
        <Act label="Pause" of={of} confirm={confirm} path="/api/v1/pause" body={body} done={`${named} is paused.`} />
      )}
      <Act label="Resync" of={of} path="/api/v1/snapshots" {...resync} done={done} />
    </>
  );
}
