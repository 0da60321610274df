#!/bin/sh
# Make the secrets of docker-compose.yml's profile "replicated", once: each service gets its own file.
# With a folder as argument they are made there. What is there already is not changed.
set -eu
umask 077
folder=${1:-$(dirname "$0")/secrets}
if [ -e "$folder/moorage.env" ]; then
  echo "$folder has secrets already; they belong to the volumes, and are not changed" >&2
  exit 0
fi
mkdir -p "$folder"
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
key() { head -c 32 /dev/urandom | base64; }

database=$(random)
s3=$(random)
grafana=$(random)
echo "POSTGRES_PASSWORD=$database" > "$folder/postgres.env"
printf 'AWS_ACCESS_KEY_ID=moorage\nAWS_SECRET_ACCESS_KEY=%s\n' "$s3" > "$folder/s3.env"
echo "GF_SECURITY_ADMIN_PASSWORD=$grafana" > "$folder/grafana.env"
{
  echo "MOORAGE_DATABASE_URL=postgresql+psycopg://moorage:$database@postgres/moorage"
  echo "MOORAGE_SECRETS_KEY=$(key)"
  echo "MOORAGE_STORAGE__S3__ACCESS_KEY=moorage"
  echo "MOORAGE_STORAGE__S3__SECRET_KEY=$s3"
} > "$folder/moorage.env.new"
# The last one: an interrupted run is done again.
mv "$folder/moorage.env.new" "$folder/moorage.env"
echo "made the secrets in $folder; keep MOORAGE_SECRETS_KEY apart from the database's backups" >&2
