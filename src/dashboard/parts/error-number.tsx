import { useEffect, useRef, useState } from "preact/hooks";
import type { ErrorView } from "../../ops/dashboard/view.ts";
import { ask } from "../api.ts";

/** All of them: one answer serves every number. */
let known: Promise<readonly ErrorView[]> | undefined;

async function errorPages(): Promise<readonly ErrorView[]> {
  const answer = await ask<{ errors: readonly ErrorView[] }>("GET", "/api/v1/errors");
  if (answer.kind !== "ok") known = undefined;
  return answer.kind === "ok" ? answer.value.errors : [];
}

/** The number of an error. It opens what the number means, and what to do. */
export function ErrorNumber({ code }: { readonly code: string }) {
  const [page, setPage] = useState<ErrorView | null>(null);
  const open = async () => {
    const pages = await (known ??= errorPages());
    setPage(pages.find((one) => one.code === code) ?? null);
  };
  return (
    <>
      <button type="button" class="link" aria-label={`${code}: what it means`} onClick={() => void open()}>
        {code}
      </button>
      {page !== null && <Meaning page={page} onClose={() => setPage(null)} />}
    </>
  );
}

function Meaning({ page, onClose }: { readonly page: ErrorView; readonly onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  const { code, title, remedy, cause } = page;
  return (
    <dialog ref={dialog} onClose={onClose} aria-label={`${code}: ${title}`}>
      <h3>
        {code}: {title}
      </h3>
      <p>{withCode(remedy)}</p>
      <p class="soft">{withCode(cause)}</p>
      <p class="buttons">
        <button type="button" onClick={() => dialog.current?.close()}>
          Close
        </button>
      </p>
    </dialog>
  );
}

/** What stands between backticks is code. */
function withCode(text: string) {
  return text.split("`").map((part, i) => (i % 2 === 1 ? <code key={i}>{part}</code> : part));
}
