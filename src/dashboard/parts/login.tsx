import { useState } from "preact/hooks";

/** Asks for a token of millrace.yaml. It stays in this tab and goes to this daemon alone. */
export function Login({ isWrong, onToken }: { readonly isWrong: boolean; readonly onToken: (token: string) => void }) {
  const [token, setToken] = useState("");
  return (
    <main class="login">
      <form
        class="card"
        onSubmit={(event) => {
          event.preventDefault();
          if (token.trim() !== "") onToken(token.trim());
        }}
      >
        <h1>Millrace</h1>
        <p class="soft">This daemon wants a token: one of admin.tokens in its millrace.yaml. It stays in this tab.</p>
        <label for="token">Token</label>
        <input
          id="token"
          type="password"
          autocomplete="current-password"
          value={token}
          onInput={({ currentTarget }) => setToken(currentTarget.value)}
          aria-describedby="wrong"
        />
        <p id="wrong" class="bad-text" role="alert">
          {isWrong ? "This token is not one of them." : ""}
        </p>
        <button type="submit" class="main">
          Open
        </button>
      </form>
    </main>
  );
}
