import type { DocumentStatus } from "../../core/contracts/status.ts";
import { ago, count, seconds } from "../format.ts";
import { List, Section } from "./section.tsx";

interface DocumentsProps {
  readonly documents: readonly DocumentStatus[];
  readonly nowMs: number;
}

/** Objects made of rows of several tables: how old they are, and how many wait. */
export function Documents({ documents, nowMs }: DocumentsProps) {
  return (
    <Section id="documents" title="Documents">
      <List
        of="documents"
        texts={["document", "sinks", "state"]}
        figures={["behind", "changed, to be sent", "first changed"]}
        rows={documents.map((document) => (
          <Row key={document.name} document={document} nowMs={nowMs} />
        ))}
      />
    </Section>
  );
}

function Row({ document, nowMs }: { readonly document: DocumentStatus; readonly nowMs: number }) {
  const { name, sinks, isFilled, lagSeconds, waiting, isMore, waitingSince } = document;
  return (
    <tr>
      <th scope="row" class="text">
        <bdi>{name}</bdi>
      </th>
      <td class="text">
        <bdi>{sinks.join(", ")}</bdi>
      </td>
      <td class="text">
        <span class={`pill ${isFilled ? "good" : "own"}`}>{isFilled ? "followed" : "the nest is filled"}</span>
      </td>
      <td>{seconds(lagSeconds)}</td>
      <td>{`${count(waiting)}${isMore ? " or more" : ""}`}</td>
      <td>{waitingSince === null ? "–" : ago(waitingSince, nowMs)}</td>
    </tr>
  );
}
