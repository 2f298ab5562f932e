import { useState } from "preact/hooks";
import type { LetterGroupView, LetterView } from "../../ops/dashboard/view.ts";
import { Act } from "../act.tsx";
import { ago, count, many } from "../format.ts";

interface LettersProps {
  readonly groups: readonly LetterGroupView[];
  /** The newest of all groups. */
  readonly letters: readonly LetterView[];
  readonly nowMs: number;
}

export function Letters({ groups, letters, nowMs }: LettersProps) {
  const total = groups.reduce((sum, group) => sum + group.count, 0);
  return (
    <section id="letters" aria-labelledby="letters-title">
      <div class="heading">
        <h2 id="letters-title">Dead letters</h2>
        {groups.length > 0 && (
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
      {groups.length === 0 ? (
        <p class="card soft">No row was refused.</p>
      ) : (
        <div class="card wide" tabIndex={0} role="group" aria-label="List of dead letters">
          <table>
            <thead>
              <tr>
                <th scope="col" class="text">
                  why
                </th>
                <th scope="col" class="text">
                  table
                </th>
                <th scope="col" class="text">
                  sink
                </th>
                <th scope="col">rows</th>
                <th scope="col">newest</th>
                <th scope="col">
                  <span class="hidden">actions</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {groups.map((group) => (
                <Group key={placeOf(group)} group={group} letters={letters} nowMs={nowMs} />
              ))}
            </tbody>
          </table>
          <p class="soft">
            {many(total, "row")} in {many(groups.length, "group")}. Keys and values are shown by{" "}
            <code>millrace dlq show ID</code> alone.
          </p>
        </div>
      )}
    </section>
  );
}

type Placed = Pick<LetterView, "sink" | "table" | "code" | "cause">;

function placeOf({ sink, table, code, cause }: Placed): string {
  return JSON.stringify([sink, table, code, cause]);
}

interface GroupProps {
  readonly group: LetterGroupView;
  readonly letters: readonly LetterView[];
  readonly nowMs: number;
}

/** Rows that were refused for the same cause; when it is open, each of the newest. */
function Group({ group, letters, nowMs }: GroupProps) {
  const { sink, table, code, cause, newest, oldest, ids } = group;
  const [isOpen, setOpen] = useState(false);
  const own = isOpen ? letters.filter((letter) => placeOf(letter) === placeOf(group)) : [];
  const part = ids.length < group.count ? `the oldest ${count(ids.length)} ` : "";
  return (
    <>
      <tr>
        <th scope="row" class="text why">
          <button type="button" class="open" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
            {code}
          </button>{" "}
          <span class="cause">{cause}</span>
        </th>
        <td class="text">
          <bdi>{table}</bdi>
        </td>
        <td class="text">
          <bdi>{sink}</bdi>
        </td>
        <td>{count(group.count)}</td>
        <td title={`oldest ${ago(oldest, nowMs)}`}>{ago(newest, nowMs)}</td>
        <td>
          <Settle
            ids={ids}
            of={`${part}letters of ${table} in ${sink} with ${code}`}
            confirm={`Give ${part}${many(ids.length, "row")} up? Sink ${sink} stays without each until it changes again.`}
          />
        </td>
      </tr>
      {own.map(({ id, op, at, attempts }) => (
        <tr key={id} class="inner">
          <th scope="row" class="text">
            letter {id}
          </th>
          <td class="text soft" colSpan={2}>
            {op}, refused {many(attempts, "time")}
          </td>
          <td />
          <td>{ago(at, nowMs)}</td>
          <td>
            <Settle
              ids={[id]}
              of={`letter ${id}`}
              confirm={`Give letter ${id} up? Sink ${sink} stays without this row until it changes again.`}
            />
          </td>
        </tr>
      ))}
      {isOpen && own.length < group.count && (
        <tr class="inner">
          <td colSpan={6} class="text soft">
            {many(group.count - own.length, "older letter")}: <code>millrace dlq list</code> shows them.
          </td>
        </tr>
      )}
    </>
  );
}

interface SettleProps {
  readonly ids: readonly number[];
  readonly of: string;
  readonly confirm: string;
}

function Settle({ ids, of, confirm }: SettleProps) {
  const rows = ids.length === 1 ? `Letter ${ids[0]}` : many(ids.length, "letter");
  const were = ids.length === 1 ? "was" : "were";
  return (
    <span class="buttons">
      <Act
        label="Replay"
        of={of}
        order={{
          method: "POST",
          path: "/api/v1/dlq/replay",
          body: { ids },
          done: `${rows} ${were} read again.`,
        }}
      />
      <Act
        label="Discard"
        of={of}
        look="danger"
        confirm={confirm}
        order={{ method: "POST", path: "/api/v1/dlq/discard", body: { ids }, done: `${rows} ${were} discarded.` }}
      />
    </span>
  );
}
