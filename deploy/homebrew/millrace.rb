# A formula for a tap of your own. Put the tarball where `url` says, and its `shasum -a 256` into `sha256`.
class Millrace < Formula
  desc "Change data capture from Postgres and MySQL into warehouses, search and caches"
  homepage "https://example.com/millrace"
  url "https://example.com/millrace-0.1.0.tgz"
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license "Apache-2.0"

  depends_on "node"

  def install
    system "npm", "install", *std_npm_args
    bin.install_symlink libexec.glob("bin/*")
  end

  def caveats
    <<~EOS
      DuckDB, AWS' client and OpenTelemetry are not in it. `millrace check` prints the
      `npm install` for what a configuration lacks; run it in:
        #{libexec}/lib
    EOS
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/millrace version")
  end
end
