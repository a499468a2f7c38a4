"""Debian packages: made of the tree without network, the same bytes twice, clean to lintian, working when unpacked; in a root of
its own (an overlay over this system's, where the kernel allows one) installed, upgraded, removed and purged."""
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
from harness import BUILD, SOURCE, environment  # noqa: E402

# Run in a mount namespace; $1 is an empty folder, $2 the package. What it prints is what is checked.
INSIDE = """
set -e
mount -t tmpfs none "$1" && mkdir "$1/up" "$1/work" "$1/root"
mount -t overlay none -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" "$1/root" || { echo no overlay; exit 77; }
mount -t proc proc "$1/root/proc"
mount --bind /dev "$1/root/dev"
cp "$2" "$1/root/root/cinch.deb"
cat >"$1/root/root/steps" <<'END'
set -e
exec 2>&1
rm -rf /run/systemd/system
dpkg --simulate -i /root/cinch.deb >/dev/null || { echo dependencies missing; exit 77; }
dpkg -i /root/cinch.deb >/dev/null
echo account: $(id -un cinch) $(id -gn cinch)
stat -c 'folder: %n %a %U' /var/lib/cinch /var/cache/cinch
echo enabled: $(ls /etc/systemd/system/multi-user.target.wants | grep cinch)
echo '# mine' >>/etc/cinch/cinchd.conf
mkdir -p /run/cinch && chown cinch:cinch /run/cinch
setpriv --reuid cinch --regid cinch --clear-groups env -i PATH=/usr/bin:/bin CINCH_COORDINATOR=ipc:///run/cinch/cinch.sock \\
    cinchd --state /var/lib/cinch --socket-group cinch >/root/cinchd.log 2>&1 & # each of them becomes the next: $! is cinchd
for i in $(seq 100); do [ -S /run/cinch/cinch.sock ] && break; sleep 0.1; done
echo as root: $(env -i PATH=/usr/bin HOME=/root cinch ls --json)
kill $!; wait $! || true
dpkg -i /root/cinch.deb >/dev/null
echo kept: $(tail -1 /etc/cinch/cinchd.conf)
dpkg -r cinch >/dev/null
[ ! -e /usr/bin/cinch ] && [ ! -e /usr/share/cinch ] && echo removed
dpkg -P cinch | grep 'stay in'
[ ! -e /etc/cinch ] && [ -e /var/lib/cinch/queue.db ] && [ ! -e /var/cache/cinch ] && echo purged
END
chroot "$1/root" sh /root/steps
"""


class Deb(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for tool in ("dpkg-deb", "dpkg-shlibdeps", "cmake"):
            if not shutil.which(tool):
                raise unittest.SkipTest("no " + tool)
        cls.dir = tempfile.mkdtemp(prefix="cinch-deb-")
        cls.addClassCleanup(shutil.rmtree, cls.dir, ignore_errors=True)
        cls.deb = cls.make(cls.dir + "/dist")

    @staticmethod
    def make(out):
        done = subprocess.run([SOURCE + "/packaging/deb.sh", BUILD, out], capture_output=True, text=True, check=False,
                              env={**os.environ, "DEB_COMPRESSION": "none", "SOURCE_DATE_EPOCH": "1700000000"})
        assert done.returncode == 0, done.stdout + done.stderr
        return glob.glob(out + "/cinch_*.deb")[0]

    def field(self, name):
        return subprocess.run(["dpkg-deb", "-f", self.deb, name], capture_output=True, text=True, check=True).stdout.strip()

    def test_fields_and_content(self):
        self.assertEqual(self.field("Package"), "cinch")
        for library in ("libzmq5", "libsodium23", "libsqlite3-0"):
            self.assertIn(library, self.field("Depends"))
        listing = subprocess.run(["dpkg-deb", "-c", self.deb], capture_output=True, text=True, check=True).stdout
        for path in ("./usr/bin/cinchd", "./usr/libexec/cinch/cinch-lat", "./usr/share/cinch/web/index.html", "./etc/cinch/cinchd.conf",
                     "./usr/lib/systemd/system/cinch-train@.service", "./usr/share/man/man1/cinch.1.gz", "./usr/share/doc/cinch/install.md"):
            self.assertIn(path + "\n", listing)
        self.assertNotIn(" root/", listing.replace(" root/root ", " "))

    def test_the_same_bytes_twice(self):
        with open(self.deb, "rb") as a, open(self.make(self.dir + "/again"), "rb") as b:
            self.assertEqual(a.read(), b.read())

    def test_unpacked_it_works(self):
        root = self.dir + "/root"
        subprocess.run(["dpkg-deb", "-x", self.deb, root], check=True)
        done = subprocess.run([root + "/usr/bin/cinch", "doctor", "--json"], capture_output=True, text=True, env=environment(), check=False)
        self.assertIn('"check"', done.stdout)

    def test_lintian(self):
        if not shutil.which("lintian"):
            self.skipTest("no lintian")
        quick = "uses-no-compression-for-control-tarball,uses-no-compression-for-data-tarball"  # only these tests' packages are so
        done = subprocess.run(["lintian", "--fail-on", "error,warning", "--allow-root", "--suppress-tags", quick, *glob.glob(self.dir + "/dist/*.deb")],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_installed_upgraded_removed(self):
        if os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"):
            self.skipTest("needs root and unshare")
        place = tempfile.mkdtemp(dir=self.dir)
        done = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", INSIDE, "sh", place, self.deb], capture_output=True, text=True,
                              check=False, timeout=600)
        if done.returncode == 77 or "ermission denied" in done.stderr or "not permitted" in done.stderr:
            self.skipTest(done.stdout + done.stderr)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for line in ("account: cinch cinch", "folder: /var/lib/cinch 700 cinch", "folder: /var/cache/cinch 750 cinch", "enabled: cinchd.service",
                     "kept: # mine", "removed", "purged"):
            self.assertIn(line + "\n", done.stdout)
        self.assertRegex(done.stdout, r"as root: [\[{]")


if __name__ == "__main__":
    unittest.main(verbosity=2)
