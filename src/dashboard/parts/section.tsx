import type { ComponentChildren } from "preact";

interface SectionProps {
  /** Of its place in the page, which the navigation leads to. */
  readonly id: string;
  readonly title: string;
  /** Beside the title. */
  readonly beside?: ComponentChildren;
  readonly children: ComponentChildren;
}

/** A part of the page. */
export function Section({ id, title, beside, children }: SectionProps) {
  const heading = <h2 id={`${id}-title`}>{title}</h2>;
  return (
    <section id={id} aria-labelledby={`${id}-title`}>
      {beside === undefined ? (
        heading
      ) : (
        <div class="heading">
          {heading}
          {beside}
        </div>
      )}
      {children}
    </section>
  );
}

interface ListProps {
  /** What it lists, for those who hear it. */
  readonly of: string;
  /** Columns of texts; those of figures follow. An empty name: only for those who hear it, the actions. */
  readonly texts: readonly string[];
  readonly figures?: readonly string[];
  readonly rows: ComponentChildren;
  /** Below the rows. */
  readonly children?: ComponentChildren;
}

/** On a narrow screen a row is a card, and its cells say which column they are of. */
function labelsOf(columns: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(columns.map((name, i) => [`--column-${i + 1}`, JSON.stringify(name)]));
}

export function List({ of, texts, figures = [], rows, children }: ListProps) {
  return (
    <div class="card wide" tabIndex={0} role="group" aria-label={`List of ${of}`}>
      <table style={labelsOf([...texts, ...figures])}>
        <thead>
          <tr>
            {texts.map((name) => (
              <th key={name} scope="col" class="text">
                {name}
              </th>
            ))}
            {figures.map((name) => (
              <th key={name} scope="col">
                {name === "" ? <span class="hidden">actions</span> : name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>{rows}</tbody>
      </table>
      {children}
    </div>
  );
}
