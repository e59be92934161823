#!/usr/bin/env bash
# A step of the Dockerfile: image-root.sh ROOT LICENSE adds to ROOT what a dynamically linked program without a shell needs, from
# packages of the Debian release that this runs in: the C library, certificates, users. Scanners find the packages' names and
# versions where they look for them in images without dpkg. Also makes /state, the empty folder that the program may write to.
set -euo pipefail

root=$1 license=$2
packages=(base-files libc6 libgcc-s1 netbase)

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends ca-certificates >/dev/null
mkdir -p "$root" /state /build/packages
cd /build/packages
apt-get download -qq -o APT::Sandbox::User=root "${packages[@]}"
for package in ./*.deb; do dpkg-deb -x "$package" "$root"; done

mkdir -p "$root/etc/ssl/certs" "$root/var/lib/dpkg/status.d" "$root/usr/share/doc/esta" "$root/proc" "$root/sys" "$root/dev"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
cp "$license" "$root/usr/share/doc/esta/LICENSE"
echo 'passwd: files
group: files
hosts: files dns
services: files' >"$root/etc/nsswitch.conf"
echo 'root:x:0:0:root:/root:/usr/sbin/nologin
esta:x:65532:65532:esta:/var/lib/esta:/usr/sbin/nologin' >"$root/etc/passwd"
echo 'root:x:0:
esta:x:65532:' >"$root/etc/group"
for package in ./*.deb; do
  { dpkg-deb -f "$package" && echo 'Status: install ok installed'; } >"$root/var/lib/dpkg/status.d/$(dpkg-deb -f "$package" Package)"
done
dpkg -s ca-certificates >"$root/var/lib/dpkg/status.d/ca-certificates"

rm -rf "$root"/usr/share/{man,info,locale,lintian,bug} "$root"/usr/share/doc/*/{NEWS,changelog,README}* "$root"/usr/lib/*/gconv "$root/etc/update-motd.d"
find "$root" /state -newermt "@$SOURCE_DATE_EPOCH" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
