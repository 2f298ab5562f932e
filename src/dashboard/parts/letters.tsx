import type { LetterView } from "../../ops/dashboard/view.ts";
import { Act } from "../act.tsx";
import { ago, many } from "../format.ts";

export function Letters({ letters, nowMs }: { readonly letters: readonly LetterView[]; readonly nowMs: number }) {
  return (
    <section id="letters" aria-labelledby="letters-title">
      <div class="heading">
        <h2 id="letters-title">Dead letters</h2>
        {letters.length > 0 && (
          <span class="buttons">
            <Act
              label="Replay all"
              of="dead letters"
              look="main"
              order={{ method: "POST", path: "/api/v1/dlq/replay", body: {}, done: "The rows were read again." }}
            />
          </span>
        )}
      </div>
      {letters.length === 0 ? (
        <p class="card soft">No row was refused.</p>
      ) : (
        <div class="card wide" tabIndex={0} role="group" aria-label="List of dead letters">
          <table>
            <thead>
              <tr>
                <th scope="col">id</th>
                <th scope="col" class="text">
                  sink
                </th>
                <th scope="col" class="text">
                  table
                </th>
                <th scope="col" class="text">
                  why
                </th>
                <th scope="col">tries</th>
                <th scope="col">since</th>
                <th scope="col">
                  <span class="hidden">actions</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {letters.map((letter) => (
                <Letter key={letter.id} letter={letter} nowMs={nowMs} />
              ))}
            </tbody>
          </table>
          <p class="soft">
            {many(letters.length, "letter")}. Keys and values are shown by <code>millrace dlq show ID</code> alone.
          </p>
        </div>
      )}
    </section>
  );
}

function Letter({ letter, nowMs }: { readonly letter: LetterView; readonly nowMs: number }) {
  const { id, sink, table, code, cause, attempts, at } = letter;
  const body = { ids: [id] };
  return (
    <tr>
      <td>{id}</td>
      <td class="text">
        <bdi>{sink}</bdi>
      </td>
      <th scope="row" class="text">
        <bdi>{table}</bdi>
      </th>
      <td class="text why">
        <b>{code}</b> {cause}
      </td>
      <td>{attempts}</td>
      <td>{ago(at, nowMs)}</td>
      <td class="buttons">
        <Act
          label="Replay"
          of={`letter ${id}`}
          order={{ method: "POST", path: "/api/v1/dlq/replay", body, done: `The row of letter ${id} was read again.` }}
        />
        <Act
          label="Discard"
          of={`letter ${id}`}
          look="danger"
          confirm={`Give letter ${id} up? Sink ${sink} stays without this row until it changes again.`}
          order={{ method: "POST", path: "/api/v1/dlq/discard", body, done: `Letter ${id} was discarded.` }}
        />
      </td>
    </tr>
  );
}
