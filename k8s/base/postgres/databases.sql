-- Roles and databases; it runs when the volume is empty, and may be repeated. What is in a database belongs to a role that
-- nobody logs in as. Two users act as it, dagster_a and dagster_b, so that one gets a password while the other is in use.
-- Which one it is, and its password, stand in the pod's environment.
\getenv user DAGSTER_USERNAME
\getenv password DAGSTER_PASSWORD
SELECT 'CREATE ROLE dagster NOLOGIN' WHERE to_regrole('dagster') IS NULL \gexec
SELECT format('CREATE ROLE %I IN ROLE dagster', :'user') WHERE to_regrole(quote_ident(:'user')) IS NULL \gexec
ALTER ROLE :"user" SET role = 'dagster';
ALTER ROLE :"user" LOGIN PASSWORD :'password';
SELECT 'CREATE DATABASE dagster OWNER dagster' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'dagster') \gexec
\getenv user MLFLOW_USERNAME
\getenv password MLFLOW_PASSWORD
SELECT 'CREATE ROLE mlflow NOLOGIN' WHERE to_regrole('mlflow') IS NULL \gexec
SELECT format('CREATE ROLE %I IN ROLE mlflow', :'user') WHERE to_regrole(quote_ident(:'user')) IS NULL \gexec
ALTER ROLE :"user" SET role = 'mlflow';
ALTER ROLE :"user" LOGIN PASSWORD :'password';
SELECT 'CREATE DATABASE mlflow OWNER mlflow' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'mlflow') \gexec
\getenv user FEATURES_USERNAME
\getenv password FEATURES_PASSWORD
SELECT 'CREATE ROLE features NOLOGIN' WHERE to_regrole('features') IS NULL \gexec
SELECT format('CREATE ROLE %I IN ROLE features', :'user') WHERE to_regrole(quote_ident(:'user')) IS NULL \gexec
ALTER ROLE :"user" SET role = 'features';
ALTER ROLE :"user" LOGIN PASSWORD :'password';
SELECT 'CREATE DATABASE features OWNER features' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'features') \gexec
REVOKE CONNECT ON DATABASE dagster, mlflow, features FROM PUBLIC;
