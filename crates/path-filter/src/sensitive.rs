//! What is not meant to be served and often is by accident. Version 2026-11.
//!
//! In order: the last entry that matches decides. `!` exempts. Letters are compared in lower case.

pub(crate) const SENSITIVE: &[&str] = &[
    // Dotfiles and folders: tools keep state and secrets in them, and no application serves one ...
    "**/.*",
    "**/.*/**",
    // ... but for what is meant for everybody (RFC 8615),
    "!**/.well-known/**",
    // the dependencies that Vite and others prepare for their development servers,
    "!**/node_modules/.{vite,vite-temp,cache,pnpm,bun}/**",
    "!/.{vite,nuxt,svelte-kit,storybook}/**",
    // and files of users, whatever they are called (Nextcloud's WebDAV, Matrix media).
    "!**/{remote,public}.php/**",
    "!/_matrix/**",
    // Repositories: the whole source and its history. `git~1` is `.git` on Windows.
    "**/.{git,svn,hg,bzr}",
    "**/.{git,svn,hg,bzr}/**",
    "**/.gitconfig",
    "**/.git-credentials",
    "**/{git,svn}~1/**",
    "**/cvs/{root,entries,repository}",
    // Environments: where every framework keeps its secrets. With all their variants.
    "**/.env",
    "**/.env{.,-,_,~}*",
    "**/*.env",
    "**/env.{php,bak,old,local,prod,production}",
    // Credentials of clouds, shells and package managers.
    "**/.{aws,azure,boto,docker,gcloud,gnupg,kube,ssh,config}/**",
    "**/.{htpasswd,htaccess,netrc,npmrc,pgpass,pypirc,my.cnf,s3cfg,yarnrc,bash_history,mysql_history,psql_history}",
    "**/{credentials,secrets}.{json,yml,yaml,toml,xml,ini,txt}",
    "**/{client_secret,service-account,service_account,serviceaccountkey,gcp-key,firebase-adminsdk}*.json",
    "**/aws-credentials*",
    // Private keys and key stores. Certificates (.crt, .cer) are public.
    "**/*.{pem,key,p12,pfx,jks,keystore,kdb,kdbx,ppk,asc,pgp,gpg}",
    "**/id_{rsa,dsa,ecdsa,ed25519}",
    "**/id_{rsa,dsa,ecdsa,ed25519}.*",
    // Databases and dumps.
    "**/*.{sql,sqlite,sqlite3,sqlitedb,db,mdb,dump,rdb,dmp,bson}",
    "**/*.{sql,dump,sqlite,db}.{gz,bz2,xz,zip,zst,7z,tar}",
    // Backups, and what editors leave behind.
    "**/*.{bak,backup,old,orig,save,sav,swp,swo,swn,tmp~,copy,rej}",
    "**/*~",
    "**/#*#",
    "**/*.{php,asp,aspx,jsp,rb,py,inc,conf,cfg,config,ini,yml,yaml,json,xml}.{1,2,txt,dist,sample,inc,save,default}",
    "**/{backup,backups,dump,www,wwwroot,site,website,htdocs,public_html,db,database}.{zip,tar,tar.gz,tgz,rar,7z,gz,bz2}",
    "**/{thumbs.db,desktop.ini,ehthumbs.db}",
    // Configuration that names hosts and passwords.
    "**/wp-config*",
    "**/{config,configuration,settings,database,local_settings,parameters}.{inc,ini,inc.php,php.txt,yml,yaml,py,rb}",
    "**/{web,app,machine}.config",
    "**/appsettings*.json",
    "**/application*.{yml,yaml,properties}",
    "**/{php,php-fpm,my,nginx,httpd,apache2}.{ini,cnf,conf}",
    "**/localsettings.php?*",
    "**/{web-inf,meta-inf}/**",
    // How the machines are built.
    "**/{dockerfile,containerfile,vagrantfile,jenkinsfile,procfile,makefile,rakefile,gemfile,pipfile}",
    "**/{docker-compose,compose,docker-stack}*.{yml,yaml}",
    "**/{bitbucket-pipelines,azure-pipelines,cloudbuild,buildspec,appveyor,serverless,ansible,playbook,inventory}.{yml,yaml}",
    "**/*.{tf,tfvars,tfstate}",
    "**/*.tfstate.*",
    "**/{composer,package-lock,npm-shrinkwrap}.{json,lock}",
    "**/{yarn,pnpm-lock,gemfile,poetry,pipfile,cargo,composer}.{lock,yaml}",
    // Logs and crash dumps.
    "**/{error_log,access_log,npm-debug.log,yarn-error.log,debug.log,laravel.log,error.log,access.log}",
    "**/{core,heapdump,hs_err_pid}.{dump,hprof,log}",
    // Status pages of servers, and what attackers look for first.
    "/{server-status,server-info,nginx_status,fpm-status,php-fpm-status}",
    "/server-status/**",
    "**/{phpinfo,phpversion,adminer,php_info}.php",
    "**/actuator/{env,heapdump,threaddump,dump,trace,logfile,jolokia,configprops,beans,mappings,shutdown,gateway}",
    "**/actuator/{env,jolokia,gateway}/**",
    "**/vendor/phpunit/**",
    "**/{cgi-bin}/{php,sh,bash,test-cgi,printenv}",
    // Repositories that an application shows on purpose: GitLab, Gitea, Forgejo and their interfaces.
    "!/*/**/-/{blob,raw,tree,blame,commits,edit,new,find_file,refs,archive,network,snippets,jobs}/**",
    "!/*/*/{src,raw,blame,commits,media,render,archive}/{branch,commit,tag}/**",
    "!/api/v{1,4}/{projects,repos}/**",
    // Files of users once more, after the rules on names.
    "!**/{remote,public}.php/{dav,webdav,caldav,carddav}/**",
    "!/_matrix/{media,client}/**",
];
