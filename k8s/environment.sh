# shellcheck shell=bash
# What the commands of docs/production/ stand on; source it in each shell: source k8s/environment.sh staging
PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case "${1:-}" in
  staging | production) ENVIRONMENT=$1 ;;
  *) echo "say which environment: source k8s/environment.sh staging (or production)" >&2; return 2 ;;
esac
NAMESPACE=mlops-$ENVIRONMENT
# Each environment has a state of its own
TF_DATA_DIR=$PROJECT/k8s/terraform/.terraform/$ENVIRONMENT
export PROJECT ENVIRONMENT NAMESPACE TF_DATA_DIR
# Where it is in AWS, once its file for Terraform says so: a new shell has another region, or none
if [ -f "$PROJECT/k8s/terraform/$ENVIRONMENT.tfvars" ]; then
  AWS_REGION=$(sed -nE 's/^region *= *"([^"]*)".*/\1/p' "$PROJECT/k8s/terraform/$ENVIRONMENT.tfvars")
  export AWS_REGION
fi

# An output of Terraform: out bucket, out -json private_subnet_ids
out() {
  if [ "$1" = -json ]; then
    terraform -chdir="$PROJECT/k8s/terraform" output -json "$2"
  else
    terraform -chdir="$PROJECT/k8s/terraform" output -raw "$1"
  fi
}

# What Terraform has put into a secret: secret dagster-postgresql username
secret() (
  set -o pipefail
  aws secretsmanager get-secret-value --secret-id "$NAMESPACE/$1" --query SecretString --output text |
    jq --exit-status --raw-output ".$2"
)

# SQL in Aurora, over HTTPS and by your rights in IAM: sql <<< "SELECT 1". Passwords in it are in no list of processes.
sql() {
  aws rds-data execute-statement --database postgres --sql file:///dev/stdin \
    --resource-arn "$(out aurora_arn)" --secret-arn "$(out aurora_superuser_secret_arn)"
}

# A number from Aurora: count "pg_roles WHERE rolname = 'dagster'"
count() (
  set -o pipefail
  sql <<< "SELECT count(*) FROM $1" | jq --exit-status '.records[0][0].longValue'
)

# A database of Aurora with a role that owns what is in it, and a user who acts as that, by a secret's username and
# password: database dagster dagster-postgresql. Other users of it stay as they are. It ends at the first answer that does
# not come: a password that could not be read would lock the user out.
database() {
  local user password found
  user=$(secret "$2" username) && password=$(secret "$2" password) || return 1
  found=$(count "pg_roles WHERE rolname = '$1'") || return 1
  if [ "$found" = 0 ]; then
    sql <<< "CREATE ROLE $1 NOLOGIN" || return 1
    # The superuser of Aurora is none, and gives databases only to roles it is in
    sql <<< "GRANT $1 TO CURRENT_USER" || return 1
  fi
  found=$(count "pg_database WHERE datname = '$1'") || return 1
  if [ "$found" = 0 ]; then
    sql <<< "CREATE DATABASE $1 OWNER $1" || return 1
    sql <<< "REVOKE CONNECT ON DATABASE $1 FROM PUBLIC" || return 1
  fi
  found=$(count "pg_roles WHERE rolname = '$user'") || return 1
  if [ "$found" = 0 ]; then
    sql <<< "CREATE ROLE $user IN ROLE $1" || return 1
  fi
  sql <<< "ALTER ROLE $user SET role = '$1'" && sql <<< "ALTER ROLE $user LOGIN PASSWORD '$password'"
}

# Let nobody log in as a user of Aurora any more, unless somebody is logged in now: lock dagster_a
# Dagster logs in for each query anew, so look first whether pods of before are still there
lock() {
  local sessions
  sessions=$(count "pg_stat_activity WHERE usename = '$1'")
  if [ "$sessions" != 0 ]; then
    echo "$1 has $sessions sessions: wait for the runs that began before, and for the roll-outs" >&2
    return 1
  fi
  sql <<< "ALTER ROLE $1 NOLOGIN"
}
