import type { AuditEntry, AuditFacts } from "../../core/audit/audit-store.ts";
import { clock } from "../format.ts";
import { List, Section } from "./section.tsx";

/** The newest entries of the audit log. */
export function Actions({ entries, nowMs }: { readonly entries: readonly AuditEntry[]; readonly nowMs: number }) {
  return (
    <Section id="actions" title="Actions of operators">
      {entries.length === 0 ? (
        <p class="card soft">Nobody has done anything yet.</p>
      ) : (
        <List
          of="actions"
          texts={["when", "who", "action", "to", "result"]}
          rows={entries.map(({ id, at, who, via, action, subject, error, endedAt }) => (
            <tr key={id}>
              <td class="text">{clock(at, nowMs)}</td>
              <td class="text">
                <bdi>{who}</bdi> <span class="soft">{via}</span>
              </td>
              <th scope="row" class="text">
                {action}
              </th>
              <td class="text">{subjectText(subject)}</td>
              <td class="text">
                <span class={`pill ${error !== null ? "bad" : endedAt === null ? "warning" : "good"}`}>
                  {error ?? (endedAt === null ? "not ended" : "done")}
                </span>
              </td>
            </tr>
          ))}
        />
      )}
    </Section>
  );
}

function subjectText(subject: AuditFacts): string {
  const named = Object.entries(subject).flatMap(([name, value]) => {
    if (Array.isArray(value)) return value.map(String);
    if (name === "letters") return lettersText(value);
    return name === "id" || name === "to" ? [`${name} ${String(value)}`] : [];
  });
  return named.length === 0 ? "all" : named.join(", ");
}

/** The numbers of dead letters, unless all were meant. */
function lettersText(value: unknown): readonly string[] {
  if (typeof value !== "object" || value === null || !("ids" in value) || !Array.isArray(value.ids)) return [];
  return [`letters ${value.ids.map(String).join(", ")}`];
}
