import { useState } from "preact/hooks";
import type { LetterGroupView, LetterView } from "../../ops/dashboard/view.ts";
import { Act } from "../act.tsx";
import { ago, count, many } from "../format.ts";
import { List, Section } from "./section.tsx";

interface LettersProps {
  readonly groups: readonly LetterGroupView[];
  /** The newest of all groups. */
  readonly letters: readonly LetterView[];
  /** Whose letters they are: a sink's, or all of the daemon's; null: some, which are settled by group. */
  readonly of: { readonly sink?: string } | null;
  readonly nowMs: number;
}

export function Letters({ groups, letters, of, nowMs }: LettersProps) {
  const total = groups.reduce((sum, group) => sum + group.count, 0);
  return (
    <Section
      id="letters"
      title="Dead letters"
      beside={
        <span class="buttons">
          {groups.length > 0 && of !== null && (
            <Act
              label="Replay all"
              of={of.sink === undefined ? "dead letters" : `letters of ${of.sink}`}
              look="main"
              path="/api/v1/dlq/replay"
              body={of}
              done="The rows were read again."
            />
          )}
        </span>
      }
    >
      {groups.length === 0 ? (
        <p class="card soft">No row was refused.</p>
      ) : (
        <List
          of="dead letters"
          texts={["why", "table", "sink"]}
          figures={["rows", "newest", ""]}
          rows={groups.map((group) => (
            <Group key={placeOf(group)} group={group} letters={letters} nowMs={nowMs} />
          ))}
        >
          <p class="soft">
            {many(total, "row")} in {many(groups.length, "group")}. Keys and values are shown by{" "}
            <code>millrace dlq show ID</code> alone.
          </p>
        </List>
      )}
    </Section>
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
      <Act label="Replay" of={of} path="/api/v1/dlq/replay" body={{ ids }} done={`${rows} ${were} read again.`} />
      <Act
        label="Discard"
        of={of}
        look="danger"
        confirm={confirm}
        path="/api/v1/dlq/discard"
        body={{ ids }}
        done={`${rows} ${were} discarded.`}
      />
    </span>
  );
}
