import { useEffect, useState } from "preact/hooks";

const THEMES = ["auto", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];
const KEY = "millrace-theme";

/** The system's colours, or the reader's own choice. */
export function ThemeButton() {
  const [theme, setTheme] = useState<Theme>(() => THEMES.find((name) => name === localStorage.getItem(KEY)) ?? "auto");
  useEffect(() => {
    document.documentElement.dataset["theme"] = theme;
    localStorage.setItem(KEY, theme);
  }, [theme]);
  return (
    <label class="theme">
      <span class="hidden">Colours</span>
      <select
        value={theme}
        onChange={({ currentTarget }) => setTheme(THEMES.find((name) => name === currentTarget.value) ?? "auto")}
      >
        {THEMES.map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}
